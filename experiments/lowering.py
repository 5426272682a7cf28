"""Do the compiled programs lower to GPU and TPU? All of them, exported from a processor, with what does not and why.

Command:
    python -m experiments.lowering [--out runs/lowering] [--groups update,network] [--sample]

Time: 22 seconds of one CPU core with --sample, which takes a few small ones of most groups; minutes for all. Rows
that the folder has are kept.

Expect (rows in experiments/results/lowering.json): all lower to both, to StableHLO, but `jax.pmap` as such,
which `jax.export` does not take, and which lowers in a `jax.jit`. No program has float64 or calls the host.

Lowering is the step before XLA's compiler for the device, which is not here: that a program lowers says that all its
operations exist there, and nothing of memory or speed. Programs are traced as for an accelerator, where some functions
are written in another way than for a processor (`ugejax.compiler.on_cpu`). Only shapes are given, no weights are drawn.
"""

import argparse
import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import PartitionSpec

from experiments.tables import table_head, table_row
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.baselines.pgd import make_gradient
from ugejax.compiler import traced_for
from ugejax.countermeasures.adversarial import pgd, worst_ueraser
from ugejax.countermeasures.dp_sgd import clip_and_noise
from ugejax.feature_spaces.clip_resnet import ClipResNet
from ugejax.feature_spaces.load import CLIP_MEAN, CLIP_STD
from ugejax.feature_spaces.preprocessing import Preprocessing
from ugejax.feature_spaces.vision_transformer import ClipVisionTransformer, Dinov2
from ugejax.losses import error_minimising
from ugejax.networks import NETWORKS, build, variable_shapes
from ugejax.parallel import over_devices
from ugejax.perturbations.parametrisation import PARAMETRISATIONS, initial_noise, parametrise
from ugejax.terms import CommonSpace
from ugejax.training import Batch, default_recipe, initial_state, make_train_step
from ugejax.training.loop import on_resident, scanned
from ugejax.transforms.registry import TRANSFORMS
from ugejax.uge import Method, make_update, release_batch
from ugejax.views import FORMS, default_step

PLATFORMS = ("cuda", "tpu")
SHAPE, CLASSES, IMAGES, BATCH = (32, 32, 3), 10, 64, 16
KEY = jax.eval_shape(lambda: jax.random.key(0))

Export = tuple[Callable[..., Any], tuple[Any, ...]]  # a function, and the shapes of what it is called with


@dataclass(frozen=True)
class Program:
    """A row.

    Attributes:
        group: what it belongs to.
        name: among those of the group.
        made: gives the function, under `jax.jit` or not, and its arguments or their shapes.
        sample: whether it is one of the few that are quick.
        devices: whether it is traced for the batches of several devices.
    """

    group: str
    name: str
    made: Callable[[], Export] = field(repr=False)
    sample: bool = False
    devices: bool = False


def shaped(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def batch_of(size: int = BATCH) -> Batch:
    return Batch(shaped(size, *SHAPE, dtype=jnp.uint8), shaped(size, dtype=jnp.int32), shaped(size, dtype=jnp.int32))


def stacked(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), tree)


def training(network: str, **hooks: Any) -> tuple[Callable[..., Any], Any]:
    """The training step of a network by its recipe, with augmentation, and the shapes of its state."""
    module, recipe = build(network, CLASSES), replace(default_recipe(network), augment=("crop-flip",))
    optimizer = recipe.build_optimizer(IMAGES)
    variables = variable_shapes(network, CLASSES, SHAPE)
    state = jax.eval_shape(lambda variables: initial_state(variables, optimizer), variables)
    return make_train_step(module, optimizer, recipe, **hooks), state


def train_step(network: str, **hooks: Any) -> Export:
    step, state = training(network, **hooks)
    return step, (state, batch_of(), KEY)


def together(network: str, count: int = 8) -> Export:
    """The step of several networks as one, each with its own order of the same images."""
    step, state = training(network)
    images, labels = shaped(IMAGES, *SHAPE, dtype=jnp.uint8), shaped(IMAGES, dtype=jnp.int32)
    mapped = jax.vmap(on_resident(step, BATCH), in_axes=(0, None, None, 0, 0))
    orders = shaped(count, IMAGES, dtype=jnp.int32)
    return mapped, (stacked(state, count), images, labels, orders, stacked(KEY, count))


def epoch(network: str) -> Export:
    """Four steps as one program, as a training on an accelerator runs them."""
    step, state = training(network)
    images, labels = shaped(IMAGES, *SHAPE, dtype=jnp.uint8), shaped(IMAGES, dtype=jnp.int32)
    run = functools.partial(scanned, on_resident(step, BATCH), count=IMAGES // BATCH)
    return run, (state, images, labels, shaped(IMAGES, dtype=jnp.int32), KEY)


def view_of(form: str) -> Any:
    made = FORMS[form].view(bytes(32), SHAPE, default_step(form, Method.eps))
    return made.of_release(bytes(16))


def update(
    form: str, method: Method, network: str = "cnn", surrogate: str = "mlp", space: CommonSpace | None = None
) -> Export:
    """The update of one authorized network, its steps on the surrogate included."""
    own = AuthorizedNetwork(view_of(form), build(network, CLASSES), None, FORMS[form].trains)
    trajectory = None if own.view.blind else stacked(variable_shapes(network, CLASSES, SHAPE), 2)
    modules, optimizers = [build(surrogate, CLASSES)], [optax.sgd(0.1)]
    wrong = (jnp.arange(CLASSES) + 1) % CLASSES
    made = make_update(method, own, trajectory, modules, optimizers, wrong, space=space)
    state = jax.eval_shape(
        lambda key, start, images: initial_noise(
            key, method, start, images, jnp.arange(IMAGES) % CLASSES, modules, optimizers, bytes(32)
        ),
        KEY, shaped(CLASSES, *SHAPE), shaped(IMAGES, *SHAPE, dtype=jnp.uint8),
    )  # fmt: skip
    return lambda update, *rest: update(*rest), (made, state, batch_of(), KEY)


def released(form: str, parametrisation: str) -> Export:
    """A batch of the release from its noise."""
    method, view = Method(parametrisation=parametrisation), view_of(form)
    how = parametrise(method, SHAPE)
    noise = jax.eval_shape(
        lambda key, start: how.start(key, start, jnp.arange(IMAGES) % CLASSES, bytes(32)), KEY, shaped(CLASSES, *SHAPE)
    )

    def release(view, noise, key, images, labels, index):
        wanted = how.wanted(noise, Batch(images.astype(jnp.float32) / 255, labels, index))
        return release_batch(method, view, wanted, images, index, key)

    batch = batch_of()
    return release, (view, noise, KEY, batch.x, batch.y, batch.index)


def of_view(form: str) -> Export:
    """What the backbone sees, and the nearest blind perturbation with its bounds."""

    def seen_and_blind(view, x, delta):
        return view.apply(x), view.project(delta, x), view.bounds(x), view.keeps(x, x + delta)

    return seen_and_blind, (view_of(form), shaped(BATCH, *SHAPE), shaped(BATCH, *SHAPE))


def transform(name: str) -> Export:
    """A transform and its gradient by the images."""

    def value_and_gradient(key, x, y, weights):
        changed, pull_back = jax.vjp(lambda x: TRANSFORMS[name](key, x, y)[0], x)
        return changed, pull_back(weights)

    return value_and_gradient, (KEY, shaped(BATCH, *SHAPE), shaped(BATCH, CLASSES), shaped(BATCH, *SHAPE))


def features(module: nn.Module, preprocessing: Preprocessing) -> Export:
    """Features of small images, preprocessing included, and their gradient."""
    side = preprocessing.crop
    variables = jax.eval_shape(module.init, KEY, shaped(1, side, side, 3))

    def value_and_gradient(variables, x):
        def total(x):
            found: Any = module.apply(variables, preprocessing(x))
            return jnp.square(found).sum(), found

        return jax.grad(total, has_aux=True)(x)

    return value_and_gradient, (variables, shaped(2, *SHAPE))


# In the sizes that are published: ViT-B/32 and RN50 of CLIP, ViT-S/14 of DINOv2.
SPACES = {
    "clip-vit": (
        ClipVisionTransformer(768, 12, 12, 3072, patch=32, grid=7, projection=512),
        Preprocessing(224, 224, CLIP_MEAN, CLIP_STD),
    ),
    "clip-resnet": (ClipResNet(64, (3, 4, 6, 3), 1024), Preprocessing(224, 224, CLIP_MEAN, CLIP_STD)),
    "dinov2": (Dinov2(384, 12, 6, 1536, patch=14, grid=37), Preprocessing(256, 224, CLIP_MEAN, CLIP_STD)),
}


def predict(network: str) -> Export:
    module = build(network, CLASSES)
    variables = variable_shapes(network, CLASSES, SHAPE)
    return lambda variables, x: module.apply(variables, x, train=False), (variables, shaped(BATCH, *SHAPE))


def pgd_step(network: str) -> Export:
    """The gradient of the baselines' loop."""
    module = build(network, CLASSES)

    def loss(weights, key, x_u, y):
        return error_minimising(jnp.asarray(module.apply(weights, x_u, train=False)), y)

    weights, x = variable_shapes(network, CLASSES, SHAPE), shaped(BATCH, *SHAPE)
    return make_gradient(loss), (weights, KEY, x, shaped(BATCH, dtype=jnp.int32), x)


def _bulk(view, x):
    return view.apply(x)


def by_pmap(*, within_jit: bool) -> Export:
    """Bulk work on all devices by `jax.pmap`."""
    mapped = jax.pmap(_bulk, in_axes=(None, 0))
    x = shaped(jax.device_count(), BATCH, *SHAPE)
    return (jax.jit(mapped) if within_jit else mapped), (view_of("keyed-dither"), x)


def by_shard_map() -> Export:
    """The same as `ugejax.parallel.in_bulk` maps it."""
    specs = {"in_specs": (PartitionSpec(), PartitionSpec("data")), "out_specs": PartitionSpec("data")}
    mapped = jax.shard_map(_bulk, check_vma=False, **specs)  # on the mesh of the context
    return mapped, (view_of("keyed-dither"), shaped(2 * BATCH, *SHAPE))


def spread_step(network: str) -> Export:
    """The training step whose batch is shared out among the devices."""
    step, state = training(network)
    images, labels = shaped(IMAGES, *SHAPE, dtype=jnp.uint8), shaped(IMAGES, dtype=jnp.int32)
    return on_resident(step, BATCH), (state, images, labels, shaped(IMAGES, dtype=jnp.int32), KEY)


FURTHER = {
    "feature distance error-max": Method(feature_loss="error-max"),
    "feature distance by features": Method(feature_loss="distance"),
    "gradients by cosine": Method(gradient_distance="cosine"),
    "norm l2": Method(norm="l2"),
    "3 steps a batch": Method(steps_per_batch=3),
    "transforms of three": Method(transforms=("crop-flip", "jpeg-10", "rand-augment")),
}
ADVERSARIES = {
    "adversarial training, 3 steps": functools.partial(pgd, eps=4 / 255, step_size=2 / 255, steps=3),
    "adversarial training, 10 steps": functools.partial(pgd, eps=8 / 255, step_size=2 / 255, steps=10),
    "UEraser, the worst of 5": functools.partial(worst_ueraser, copies=5),
}


def programs() -> Iterator[Program]:
    """All rows."""
    part = functools.partial
    for form in FORMS:
        for name in PARAMETRISATIONS:
            method = Method(parametrisation=name, undistillation=1.0)
            yield Program("update", f"{form}, {name}", part(update, form, method), (form, name) == ("plain", "codes"))
    for title, method in FURTHER.items():
        yield Program("update", f"plain, {title}", part(update, "plain", method))
    yield Program("update", "plain, r18 and r18", part(update, "plain", Method(), "r18", "r18"))
    encoder = SPACES["clip-vit"]

    def in_space() -> Export:
        # The encoder's weights are constants of the program, as those of a loaded space are.
        module, preprocessing = ClipVisionTransformer(64, 2, 1, 128, patch=32, grid=7, projection=16), encoder[1]
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))

        def encode(x: jax.Array) -> jax.Array:
            found: Any = module.apply(variables, preprocessing(x))
            return found

        return update("plain", Method(), space=CommonSpace(encode, jnp.eye(CLASSES, 16)))

    yield Program("update", "plain, in a feature space", in_space)
    for form in FORMS:
        for name in PARAMETRISATIONS:
            yield Program("release", f"{form}, {name}", part(released, form, name), form == "keyed-dither")
    for form in FORMS:
        yield Program("view", form, part(of_view, form), True)
    for network in NETWORKS:
        yield Program("train step", network, part(train_step, network), network in ("cnn", "speedrun"))
    for network in ("r18", "vit-small", "speedrun"):
        yield Program("train step", f"{network} in bfloat16", part(train_step, network, dtype=jnp.bfloat16))
    for network in ("cnn", "r18"):
        yield Program("epoch", f"{network}, 4 steps", part(epoch, network), network == "cnn")
        yield Program("together", f"8 of {network}", part(together, network), network == "cnn")
        yield Program("prediction", network, part(predict, network))
        yield Program("baseline", f"PGD on {network}", part(pgd_step, network), network == "cnn")
    for title, adversary in ADVERSARIES.items():
        yield Program("countermeasure", title, part(train_step, "cnn", adversary=adversary))
    noisy = functools.partial(clip_and_noise, clip=1.0, noise=0.1)
    yield Program("countermeasure", "DP-SGD", part(train_step, "cnn", aggregate=noisy), True)
    for name, (module, preprocessing) in SPACES.items():
        yield Program("feature space", name, part(features, module, preprocessing))
    for name in TRANSFORMS:
        yield Program("transform", name, part(transform, name), name in ("jpeg-10", "rand-augment"))
    yield Program("devices", "bulk work by pmap", part(by_pmap, within_jit=False), True)
    yield Program("devices", "bulk work by pmap in a jit", part(by_pmap, within_jit=True), True)
    yield Program("devices", "bulk work by shard_map", by_shard_map, True, devices=True)
    yield Program("devices", "train step of cnn, its batch spread", part(spread_step, "cnn"), devices=True)


def lowered(program: Program) -> dict[str, Any]:
    """The row: for each platform "yes" or why not; how many convolutions, and what should not be there."""
    row: dict[str, Any] = {"group": program.group, "name": program.name}
    texts = {}
    with over_devices() if program.devices else contextlib.nullcontext():
        function, arguments = program.made()
        jitted: Any = function if hasattr(function, "lower") else jax.jit(function)
        for platform in PLATFORMS:
            try:
                texts[platform] = jax.export.export(jitted, platforms=[platform])(*arguments).mlir_module()
                row[platform] = "yes"
            except Exception as error:  # what is asked is whether there is any
                why = re.sub(r" at 0x\w+", "", str(error).splitlines()[0])
                row[platform] = f"{type(error).__name__}: {why}"
    for name, pattern in (("convolutions", r"stablehlo\.convolution"), ("float64", r"xf64>|tensor<f64>")):
        row[name] = max((len(re.findall(pattern, text)) for text in texts.values()), default=0)
    calls = {call for text in texts.values() for call in re.findall(r"custom_call @([\w.]+)", text)}
    row["custom_calls"] = sorted(calls - {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"})
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/lowering"), help="folder for results.json; rows that it has are kept"
    )
    parser.add_argument("--groups", help="comma-separated; all unless told")
    parser.add_argument("--sample", action="store_true", help="a few small ones of every group")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)  # for the programs of several
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = arguments.groups and arguments.groups.split(",")
    file = arguments.out / "results.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    done = {(row["group"], row["name"]) for row in rows}
    order = [(program.group, program.name) for program in programs()]
    print(table_head("group", "program", *PLATFORMS, "convolutions", "float64", "custom calls"))
    with traced_for("accelerator"):
        for program in programs():
            wanted = not (chosen and program.group not in chosen) and (program.sample or not arguments.sample)
            if not wanted or (program.group, program.name) in done:
                continue
            rows.append(row := lowered(program))
            rows.sort(key=lambda row: order.index((row["group"], row["name"])))
            cells = (row[name] for name in ("group", "name", *PLATFORMS, "convolutions", "float64"))
            print(table_row(*cells, ", ".join(row["custom_calls"])), flush=True)
            file.write_text(json.dumps({"jax": jax.__version__, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
