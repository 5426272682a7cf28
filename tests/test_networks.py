"""The registry, and what every network promises."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ugejax.errors import UserError
from ugejax.networks import NETWORKS, build, count_parameters, has_batch_norm, variable_shapes
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import convolve
from ugejax.networks.densenet import DenseNetBody
from ugejax.networks.mixer import ConvMixerBody
from ugejax.networks.resnet import BasicBlock, ResNetBody
from ugejax.networks.vgg import VGGBody

SHAPES = [(8, 8, 1), (32, 32, 3), (64, 64, 3), (24, 40, 3)]
SMALL = ["cnn", "cnn-nonorm", "mlp", "res-tiny"]
FIELD = [
    "r50", "vgg16-bn", "se18", "mv2", "shufflenet-v2", "de121", "wrn-28-10", "vit-small", "cait-small", "convmixer",
    "mlp-mixer",
]  # fmt: skip
PATCHED = ["vit-small", "cait-small", "mlp-mixer"]  # whose weights are for a number of patches
COSTLY = ["r50", "se18", "mv2", "shufflenet-v2", "wrn-28-10"]  # to compile, for their batch norm
GREY, LARGE = (8, 8, 1), (64, 64, 3)
KEY = jax.random.key(0)


def images(count: int, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(count, *shape)).astype(np.float32)


@functools.cache
def initialiser(name: str):
    return jax.jit(build(name, 10).init)


@functools.cache
def initialised(name: str):
    """A network, its variables for grey 8x8 images, and a compiled function of (variables, images) for its outputs."""
    network = build(name, 10)

    @jax.jit
    def outputs(variables, x):
        features = network.apply(variables, x, train=False, method="features")
        return {"logits": network.apply(variables, x), "features": features}

    return network, initialiser(name)(KEY, images(1, GREY)), outputs


@functools.cache
def traced(name: str, shape: tuple[int, ...]):
    """Shapes of the logits and of the variables of a network for 10 classes, and which running statistics moved.

    Tracing the deepest ones takes a while. Initialisation is most of it, so for images of another size or without
    colour a network takes the variables of small ones in colour, where they are the same but for what the first kernel
    reads; a layer refuses all others. Large images are those of a training where batch norm is all that is another
    then.
    """
    network, x = build(name, 10), jnp.zeros((3, *shape))
    by_patches = name in PATCHED or (name == "convmixer" and shape[-1] == 1)  # whose first layer is no convolution
    if shape == (32, 32, 3) or name not in FIELD or by_patches:
        return *jax.eval_shape(network.init_with_output, KEY, x), []
    _, variables, _ = traced(name, (32, 32, 3))
    moved = []

    def of_channels(leaf):
        first = leaf.shape[2:3] == (3,)
        return leaf.update(shape=(*leaf.shape[:2], shape[-1], leaf.shape[3])) if first else leaf

    def apply(variables, x):
        train = shape == LARGE and name in COSTLY
        logits, updated = network.apply(variables, x, train=train, mutable=["batch_stats"])
        pairs = zip(*(jax.tree.leaves(tree.get("batch_stats")) for tree in (variables, updated)), strict=True)
        moved.extend(new is not old for old, new in pairs)  # what nothing is done to, is the same tracer
        return logits

    variables = jax.tree.map(of_channels, variables)
    return jax.eval_shape(apply, variables, x), variables, moved


# Tracing the deepest networks takes seconds, so each of these meets one shape only.
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in [*SMALL, "r20"] for shape in SHAPES] + [("r18", (24, 40, 3)), ("r56", (24, 40, 3))],
)
def test_shapes_and_dtypes(name, shape):
    network = build(name, 7)
    x = jnp.zeros((3, *shape))
    logits, variables = jax.eval_shape(network.init_with_output, KEY, x)
    features = jax.eval_shape(functools.partial(network.apply, method="features"), variables, x)
    assert logits.shape == (3, 7) and logits.dtype == jnp.float32
    assert features.shape == (3, variables["params"]["head"]["kernel"].shape[0])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in FIELD
        for shape in [(32, 32, 3), (28, 28, 1), LARGE]
        if (name, shape) != ("vgg16-bn", (28, 28, 1))  # too small for it
    ],
)
def test_networks_of_the_field_take_images_of_the_usual_sizes(name, shape):
    """Where a network is costly, its batch norms are looked at as well: they move in training alone."""
    logits, variables, moved = traced(name, shape)
    assert logits.shape == (3, 10) and logits.dtype == jnp.float32
    assert set(variables["params"]) == {"body", "head"}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    if name in COSTLY and shape != (32, 32, 3):
        scales = [path for path in leaves(variables["params"]) if path[-1] == "scale"]
        assert len(moved) == len(leaves(variables["batch_stats"])) == 2 * len(scales) > 0
        assert all(moved) if shape == LARGE else not any(moved)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("vgg16-bn", (28, 28, 1), "28x28 are too small for VGG: .* `image_size` 32"),
        ("de121", (32, 7, 3), "32x7 are too small for DenseNet: .* `image_size` 8"),
        ("vit-small", (30, 32, 3), "30x32 do not divide into patches of 4x4"),
        ("cait-small", (32, 30, 3), "32x30 do not divide into patches of 4x4"),
        ("convmixer", (9, 8, 1), "9x8 do not divide into patches of 2x2"),
        ("mlp-mixer", (30, 30, 1), "multiple of 4 as `image_size`"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(name, shape, says):
    with pytest.raises(UserError, match=says):
        variable_shapes(name, 10, shape)


# Of the field's forms: r50, vgg16-bn, se18, mv2, shufflenet-v2 and de121 as those in kuangliu/pytorch-cifar, vit-small,
# cait-small and mlp-mixer as those in kentaroy47/vision-transformers-cifar10, convmixer as that in
# locuslab/convmixer-cifar10, all counted in PyTorch; wrn-28-10 has the 36.5M of its paper.
@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("cnn", (32, 32, 3), 279_466),
        ("cnn-nonorm", (32, 32, 3), 279_050),
        ("res-tiny", (32, 32, 3), 290_090),
        ("mlp", (8, 8, 1), 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10),
        ("r18", (32, 32, 3), 11_173_962),
        ("r20", (32, 32, 3), 269_722),
        ("r56", (32, 32, 3), 853_018),
        ("r50", (32, 32, 3), 23_520_842),
        ("vgg16-bn", (32, 32, 3), 14_728_266),
        ("se18", (32, 32, 3), 11_260_354),
        ("mv2", (32, 32, 3), 2_296_922),
        ("shufflenet-v2", (32, 32, 3), 1_263_854),
        ("de121", (32, 32, 3), 6_956_298),
        ("wrn-28-10", (32, 32, 3), 36_479_194),
        ("vit-small", (32, 32, 3), 9_622_512),
        ("cait-small", (32, 32, 3), 8_488_522),
        ("convmixer", (32, 32, 3), 594_186),
        ("mlp-mixer", (32, 32, 3), 1_819_530),
        ("speedrun", (32, 32, 3), 568_714),
        ("speedrun-wide", (32, 32, 3), 1_971_338),
    ],
)
def test_parameter_counts(name, shape, count):
    assert count_parameters(traced(name, shape)[1]) == count


@pytest.mark.parametrize(("name", "mixes"), [("mlp", False), ("res-tiny", False), ("r20", True)])
def test_who_mixes_the_examples_of_a_batch(name, mixes):
    assert has_batch_norm(name) == mixes


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_the_head_of_the_features(name):
    _, variables, outputs = initialised(name)
    got = jax.tree.map(np.asarray, outputs(variables, images(32, GREY)))
    head = variables["params"]["head"]
    assert set(variables["params"]) == {"body", "head"}
    np.testing.assert_allclose(got["logits"], got["features"] @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4)
    assert 0.01 < np.std(got["logits"]) < 10


@pytest.mark.parametrize(("shape", "side"), [((8, 8, 1), 2), ((4, 4, 1), 2), ((16, 16, 3), 2), ((24, 40, 3), 3)])
@pytest.mark.parametrize("name", ["cnn", "res-tiny"])
def test_last_maps_are_at_least_two_by_two(name, shape, side):
    def intermediates(x):
        return build(name, 10).init_with_output(KEY, x, capture_intermediates=True)[1]["intermediates"]["body"]

    maps = [leaf for leaf in jax.tree.leaves(jax.eval_shape(intermediates, jnp.zeros((1, *shape)))) if leaf.ndim == 4]
    assert min(min(leaf.shape[1:3]) for leaf in maps) == side


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("r20", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ("cnn", [0.5] * 3, [0.25] * 3)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_input_is_normalised(name, mean, std, channels):
    class Flatten(nn.Module):
        def __call__(self, x, train):
            return x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1)

    network = build(name, 10).copy(body=Flatten())
    mean, std = np.array(mean), np.array(std)
    if channels == 1:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    x = jnp.broadcast_to(jnp.asarray(mean + 2 * std, jnp.float32), (1, 2, 2, channels))
    np.testing.assert_allclose(network.apply({}, x, method="features"), np.full((1, channels), 2.0), rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        ResNetBody(stages=((4, 1), (8, 1)), shortcut="pad"),
        ResNetBody(stages=((4, 1), (8, 1)), shortcut="projection"),
        VGGBody(stages=((4, 1), (8, 1))),
        DenseNetBody(blocks=(1, 1), growth=4),
        ConvMixerBody(width=8, depth=1, kernel_size=3, patch=2),
    ],
    ids=["option-a", "projection", "vgg", "densenet", "convmixer"],
)
def test_train_updates_the_running_statistics_and_evaluation_does_not(body):
    network = Classifier(body, 10)
    x = images(4, GREY)
    variables = jax.jit(network.init)(KEY, x)
    apply = jax.jit(functools.partial(network.apply, mutable=["batch_stats"]), static_argnames="train")
    evaluated, trained = (apply(variables, x, train=train) for train in (False, True))
    statistics = [jax.tree.leaves(tree["batch_stats"]) for tree in (variables, evaluated[1], trained[1])]
    for old, same, new in zip(*statistics, strict=True):
        np.testing.assert_array_equal(old, same)
        assert np.abs(np.asarray(new) - old).max() > 0
    others = np.concatenate([x[:1], images(3, GREY, seed=2)])
    again = [np.asarray(apply(variables, others, train=train)[0])[0] for train in (False, True)]
    np.testing.assert_array_equal(again[0], np.asarray(evaluated[0])[0])
    assert np.abs(again[1] - np.asarray(trained[0])[0]).max() > 1e-4


def test_running_mean_moves_by_a_tenth():
    layer = BasicBlock(2, 1, "pad")
    x = images(4, (3, 3, 2))
    variables = jax.jit(layer.init, static_argnums=2)(KEY, x, False)
    _, updated = jax.jit(lambda variables: layer.apply(variables, x, True, mutable=["batch_stats"]))(variables)
    batch = jax.jit(lambda kernel: convolve(x, kernel, 1).mean(axis=(0, 1, 2)))(variables["params"]["conv1"]["kernel"])
    np.testing.assert_allclose(updated["batch_stats"]["bn1"]["mean"], 0.1 * batch, rtol=1e-4, atol=1e-6)


def test_option_a_shortcut_skips_positions_and_pads_channels():
    layer = BasicBlock(8, 2, "pad")
    x = images(1, (4, 4, 4))
    shapes = jax.eval_shape(lambda: layer.init(KEY, x, False))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    y = jax.jit(lambda variables: layer.apply(variables, x, False))(zeros)
    np.testing.assert_array_equal(y, np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2))))


@pytest.mark.parametrize("name", SMALL)
def test_initialisation_follows_the_key_alone(name):
    first, again, other = (initialiser(name)(jax.random.key(seed), images(1, GREY)) for seed in (3, 3, 4))
    assert checksum(first) == checksum(again) != checksum(other)


def test_initialisation_vmaps_over_keys():
    network, _, outputs = initialised("cnn")
    keys = jax.random.split(KEY, 2)
    x = images(32, GREY)
    stacked = jax.jit(jax.vmap(network.init, in_axes=(0, None)))(keys, x[:1])
    logits = np.asarray(jax.jit(jax.vmap(network.apply, in_axes=(0, None)))(stacked, x))
    for index in range(2):
        alone = outputs(initialiser("cnn")(keys[index], x[:1]), x)["logits"]
        np.testing.assert_allclose(logits[index], alone, rtol=1e-4, atol=1e-4)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_twenty_adam_steps_halve_the_loss_without_normalisation():
    network, variables, _ = initialised("cnn-nonorm")
    labels = np.arange(32) % 10
    x = np.float32(0.5) * (np.eye(64, dtype=np.float32)[labels].reshape(32, *GREY) + images(32, GREY))
    optimiser = optax.adam(2e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = network.apply({"params": params}, x, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, state, losses = variables["params"], jax.jit(optimiser.init)(variables["params"]), []
    for _ in range(20):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(("name", "close"), [("r81", "r18"), ("cnn_nonorm", "cnn-nonorm")])
def test_unknown_name_lists_the_known_ones_and_the_closest(name, close):
    with pytest.raises(UserError, match=f"did you mean '{close}'") as caught:
        build(name, 10)
    assert all(known in str(caught.value) for known in NETWORKS) and "\n" not in str(caught.value)


@pytest.mark.parametrize("x", [jnp.zeros((8, 8, 1)), jnp.zeros((1, 8, 8, 2)), jnp.zeros((1, 8, 8, 3), jnp.uint8)])
def test_images_of_another_form_are_refused(x):
    with pytest.raises(ValueError, match="floating point"):
        build("cnn", 10).init(KEY, x)


def leaves(tree) -> list[tuple[str, ...]]:
    """The path of every leaf."""
    return [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def checksum(tree) -> int:
    return functools.reduce(lambda total, leaf: zlib.crc32(np.asarray(leaf).tobytes(), total), jax.tree.leaves(tree), 0)
