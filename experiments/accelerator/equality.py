"""Does the device compute what a processor computes? Pure functions, steps and releases beside recorded results.

`reference.json` of `experiments/results` was written on a CPU. Of each array it holds a hash and some of its values,
which are compared within the case's tolerance; a release has to agree to the last bit, given its codes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.accelerator.scale import Job, Scale
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.networks import build, initial_variables
from ugejax.perturbations.parametrisation import NoiseState, initial_noise, parametrise
from ugejax.training import Batch, Recipe, decode, initial_state, make_train_step
from ugejax.transforms.registry import TRANSFORMS
from ugejax.uge import Method, make_update, release_batch
from ugejax.views import FORMS, default_step

REFERENCE = Path(__file__).parent.parent / "results" / "accelerator-reference.json"
SHAPE, CLASSES, COUNT = (8, 8, 3), 4, 12
VALUES = 64  # of an array that are recorded
# A device may choose its algorithms anew, and add in another order, in each run.
TWICE = ("train step cnn", "update plain", "update plain, sample-wise")
NETWORKS = ("mlp", "cnn", "res-tiny")

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """Something computed.

    Attributes:
        compute: gives its arrays by name.
        tolerance: by which a value may be apart, as a share of the array's largest; 0 for none, to the last bit.
        flips: share of the values that may be further apart: signs of nearly nothing.
    """

    compute: Callable[[], Arrays]
    tolerance: float
    flips: float = 0.0


def _images() -> tuple[jax.Array, jax.Array]:
    """Smooth images with texture, without a random number."""
    index = np.arange(COUNT * 8 * 8 * 3)
    images = (index * 37 % 251 + index // 192 % 5).astype(np.uint8).reshape(COUNT, *SHAPE)
    return jnp.asarray(images), jnp.arange(COUNT) % CLASSES


def _start() -> jax.Array:
    """Textures of the classes within the budget."""
    values = np.arange(CLASSES * 8 * 8 * 3) * 11 % 17 - 8
    return jnp.asarray(values.reshape(CLASSES, *SHAPE) / 255, jnp.float32)


def _view(form: str) -> Any:
    return FORMS[form].view(bytes(range(32)), SHAPE, default_step(form, Method.eps)).of_release(bytes(16))


def _release(form: str, parametrisation: str) -> Arrays:
    method, (images, labels) = Method(parametrisation=parametrisation), _images()
    how = parametrise(method, SHAPE)
    noise = how.start(jax.random.key(1), _start(), labels, bytes(range(32)))

    @jax.jit
    def released(view, noise, key, images, labels):
        index = jnp.arange(COUNT)
        wanted = how.wanted(noise, Batch(decode(images), labels, index))
        return release_batch(method, view, wanted, images, index, key)

    return {"released": released(_view(form), noise, jax.random.key(2), images, labels)}


def _seen(form: str) -> Arrays:
    return {"seen": jax.jit(lambda view, x: view.apply(x))(_view(form), decode(_images()[0]))}


def _transform(name: str) -> Arrays:
    images, labels = _images()
    run = jax.jit(TRANSFORMS[name])
    x, y = run(jax.random.key(3), decode(images), jax.nn.one_hot(labels, CLASSES))
    return {"images": x, "labels": y}


def _weights(network: str) -> Any:
    """Weights that no initialiser has drawn, which may differ in the last bit between machines: waves of He's size."""
    module = build(network, CLASSES)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))

    def wave(leaf: Any) -> jax.Array:
        if len(leaf.shape) < 2:
            return jnp.ones(leaf.shape) if leaf.shape else jnp.zeros(())
        inputs = int(np.prod(leaf.shape[:-1]))
        values = np.sin(np.arange(np.prod(leaf.shape)) ** 1.5).reshape(leaf.shape)
        return jnp.asarray(values * 2 / inputs**0.5, jnp.float32)

    return jax.tree.map(wave, shapes)


def _train_step(network: str) -> Arrays:
    module, optimizer = build(network, CLASSES), optax.sgd(0.1)
    step = jax.jit(make_train_step(module, optimizer, Recipe(augment=("crop-flip",))))
    state, loss = step(initial_state(_weights(network), optimizer), Batch(*_images()), jax.random.key(4))
    return {"loss": loss, "head": state.params["head"]["kernel"]}


def _update(form: str, parametrisation: str) -> Arrays:
    method = Method(parametrisation=parametrisation, undistillation=1.0)
    (images, labels), module, optimizer = _images(), build("mlp", CLASSES), optax.sgd(0.1)
    network = AuthorizedNetwork(_view(form), module, None, FORMS[form].trains)
    trajectory = None if network.view.blind else jax.tree.map(lambda leaf: leaf[None], _weights("mlp"))
    update = make_update(method, network, trajectory, [module], [optimizer], (jnp.arange(CLASSES) + 1) % CLASSES)
    state: NoiseState = initial_noise(
        jax.random.key(5), method, _start(), images, labels, [], [], bytes(range(32))
    )  # fmt: skip
    state = replace(state, surrogates=(initial_state(_weights("mlp"), optimizer),))
    batch = Batch(images, labels, jnp.arange(COUNT))
    state, losses = jax.jit(lambda update, *rest: update(*rest))(update, state, batch, jax.random.key(6))
    moved = state.noise.params if parametrisation == "generator" else jax.tree.leaves(state.noise)[0]
    largest = max(jax.tree.leaves(moved), key=jnp.size)
    return {**losses, "noise": largest}


def _initial(network: str) -> Arrays:
    """The initialiser's weights, which a key's network has: to the last bit, or not."""
    return {"kernel": initial_variables(build(network, CLASSES), jax.random.key(7), SHAPE)["params"]["head"]["kernel"]}


def cases() -> dict[str, Case]:
    """All of them by name."""
    found = {}
    for form in FORMS:
        found[f"release {form}"] = Case(lambda form=form: _release(form, "class-wise"), 0)
    found["release codes"] = Case(lambda: _release("plain", "codes"), 0)
    for form in FORMS:
        if FORMS[form].default_step or form.startswith("keyed"):
            found[f"view {form}"] = Case(lambda form=form: _seen(form), 1e-6)
    found["initial weights"] = Case(lambda: _initial("mlp"), 1e-6)
    for name in NETWORKS:
        found[f"train step {name}"] = Case(lambda name=name: _train_step(name), 1e-3)
    for form in FORMS:
        found[f"update {form}"] = Case(lambda form=form: _update(form, "class-wise"), 1e-3, 0.05)
    for name in ("sample-wise", "generator", "codes"):
        found[f"update plain, {name}"] = Case(lambda name=name: _update("plain", name), 1e-3, 0.05)
    for name in TRANSFORMS:
        found[f"transform {name}"] = Case(lambda name=name: _transform(name), 1e-5, 0.01)
    return found


def told(array: Any) -> dict[str, Any]:
    """What is recorded of an array: its hash, and values that are evenly spaced over it."""
    array = np.asarray(array)
    chosen = array.ravel()[np.linspace(0, array.size - 1, min(VALUES, array.size)).astype(int)]
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return {"sha256": digest, "values": [float(f"{value:.7g}") for value in chosen.tolist()]}


def compared(case: Case, ours: dict[str, dict], recorded: dict[str, dict]) -> dict[str, Any]:
    """How far what was computed is from what is recorded, and whether that is near enough."""
    apart, flipped = 0.0, 0.0
    for name, one in recorded.items():
        values, expected = np.array(ours[name]["values"]), np.array(one["values"])
        shares = np.abs(values - expected) / max(np.abs(expected).max(), 1e-6)
        shares = np.where(np.isfinite(shares), shares, np.inf)
        outside = shares > case.tolerance
        flipped = max(flipped, float(outside.mean()))
        apart = max(apart, float(shares[~outside].max(initial=0)))
    same = all(ours[name]["sha256"] == one["sha256"] for name, one in recorded.items())
    agrees = same if case.tolerance == 0 else flipped <= case.flips
    return {"bitwise": same, "apart": apart, "share_outside": flipped, "agrees": agrees}


def equality(job: Job) -> Iterator[dict[str, Any]]:
    """A row for each case; products are computed in full, as those that decide are everywhere."""
    recorded = json.loads(REFERENCE.read_text())["cases"]
    for name, case in cases().items():
        if name not in recorded and job.scale.cases is None:
            yield {"name": name, "recorded": False}
        elif job.scale.cases is None or name in job.scale.cases:
            with jax.default_matmul_precision("highest"):
                ours = {part: told(array) for part, array in case.compute().items()}
            limits = {"tolerance": case.tolerance, "may_be_outside": case.flips}
            yield {"name": name, **compared(case, ours, recorded[name]), **limits}
    for name in TWICE if job.scale.cases is None else ():
        first, second = ({part: told(array) for part, array in cases()[name].compute().items()} for _ in range(2))
        yield {"name": f"{name}, compiled and run twice", "bitwise": first == second}


def record(scale: Scale) -> None:
    """Add the scale's cases to the reference, on a CPU; those that it has are kept: where they changed, delete it."""
    assert jax.default_backend() == "cpu"
    found = json.loads(REFERENCE.read_text())["cases"] if REFERENCE.is_file() else {}
    with jax.default_matmul_precision("highest"):
        for name, case in cases().items():
            if name not in found and (scale.cases is None or name in scale.cases):
                found[name] = {part: told(array) for part, array in case.compute().items()}
                REFERENCE.write_text(json.dumps({"jax": jax.__version__, "cases": found}) + "\n")
