"""Transforms inside the perturbation update: what they do to labels and targets, and how a user names them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ugejax.app.cli import main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.cli.protect import method_from
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.networks import initial_variables
from ugejax.training import Batch, initial_state
from ugejax.uge import Method, NoiseState, make_update
from ugejax.views import IdentityView, dither_view

SHAPE = (8, 8, 1)


class Prior(nn.Module):
    """A surrogate that says the same of every image: classes 1 and 2 are equally likely, the others impossible."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return jnp.zeros((x.shape[0], 4)) + self.param("logits", lambda key: jnp.array([-50.0, 0.0, 0.0, -50.0]))


class Reader(nn.Module):
    """A surrogate that knows what it sees: the first four pixels are the shares of the classes."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return jnp.log(x.reshape(x.shape[0], -1)[:, :4] + 1e-6) + self.param("bias", nn.initializers.zeros, (4,))


def blind_update(surrogate: nn.Module, images: np.ndarray, labels: np.ndarray, feature_loss: str):
    """One update from no perturbation, under mixup: the surrogate before and after it, and the losses."""
    method = Method(feature_loss=feature_loss, transforms=("mixup",), batch_size=20)
    network = AuthorizedNetwork(dither_view(b"secret 0", SHAPE, salt=bytes(16), step=16), None, {}, "all")
    optimizer = optax.sgd(0.1)
    before = initial_state(initial_variables(surrogate, jax.random.key(0), SHAPE), optimizer)
    update = make_update(method, network, None, [surrogate], [optimizer], jnp.array([1, 2, 3, 0]))
    state = NoiseState(jnp.zeros((), jnp.int32), jnp.zeros((4, *SHAPE)), (before,))
    after, losses = jax.jit(update)(state, Batch(images, labels, jnp.arange(20)), jax.random.key(0))
    return before, after.surrogates[0], losses


@pytest.mark.parametrize(
    ("feature_loss", "labels"),
    [("error-max", [0, 1]), ("error-min", [1, 2])],  # the classes that are aimed at are 1 and 2 in either case
)
def test_the_targets_of_a_mixed_image_are_those_of_its_parts(feature_loss, labels):
    """However classes are mixed, the loss is that of the two likely ones: log 2."""
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    before, after, losses = blind_update(Prior(), images, jnp.asarray(labels)[jnp.arange(20) % 2], feature_loss)
    assert float(losses["feature_distance"]) == pytest.approx(np.log(2), rel=1e-5)
    # The surrogate itself trains on the true labels, mixed, and on nothing else: only their logits may rise.
    rise = np.asarray(after.params["logits"] - before.params["logits"])
    assert set(np.flatnonzero(rise > 1e-4)) <= set(labels)
    if feature_loss == "error-max":
        assert rise[0] > 0.01


def test_a_mixed_image_has_mixed_labels():
    """Who reads the shares off the image has the entropy of two shares as loss, at most log 2, and nothing to learn."""
    labels = np.arange(20) % 4
    images = 255 * np.eye(4, 64, dtype=np.uint8)[labels].reshape(20, *SHAPE)
    before, after, losses = blind_update(Reader(), images, jnp.asarray(labels), "error-max")
    np.testing.assert_allclose(after.params["bias"], before.params["bias"], atol=1e-5)
    _, _, losses = blind_update(Reader(), images, jnp.asarray(labels), "error-min")
    assert 0.2 < float(losses["feature_distance"]) < np.log(2)


class Linear(nn.Module):
    """One linear layer."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


def test_original_and_released_image_are_transformed_alike():
    """Without a perturbation nothing is left to match, however the images are cut and mixed."""
    method = Method(transforms=("crop-flip", "cutmix"), undistillation=1.0, batch_size=20)
    variables = initial_variables(Linear(), jax.random.key(0), SHAPE)
    network = AuthorizedNetwork(IdentityView(), Linear(), variables, "all")
    trajectory = jax.tree.map(lambda leaf: leaf[None], variables)
    optimizer = optax.sgd(0.1)
    surrogate = initial_state(initial_variables(Prior(), jax.random.key(0), SHAPE), optimizer)
    update = jax.jit(make_update(method, network, trajectory, [Prior()], [optimizer], jnp.array([1, 2, 3, 0])))
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)

    def losses_of(noise, seed):
        state = NoiseState(jnp.zeros((), jnp.int32), noise, (surrogate,))
        batch = Batch(images, jnp.arange(20) % 4, jnp.arange(20))
        return update(state, batch, jax.random.key(seed))[1]

    for seed in range(4):  # either transform is drawn
        at_rest = losses_of(jnp.zeros((4, *SHAPE)), seed)
        assert float(at_rest["gradient_matching"]) < 1e-10
        assert abs(float(at_rest["undistillation"])) < 1e-6
    moved = losses_of(jnp.full((4, *SHAPE), 8 / 255), 0)
    assert float(moved["gradient_matching"]) > 1e-4


class Forgetful(nn.Module):
    """A linear surrogate behind dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(4)(nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1)))


def test_a_surrogate_drops_out_where_it_trains():
    """Without transforms and on the originals, the key decides about nothing else."""
    method = Method(feature_loss="error-max", transforms=(), batch_size=20)
    network = AuthorizedNetwork(dither_view(b"secret 0", SHAPE, salt=bytes(16), step=16), None, {}, "all")
    optimizer = optax.sgd(0.1)
    surrogate = initial_state(initial_variables(Forgetful(), jax.random.key(0), SHAPE), optimizer)
    update = jax.jit(make_update(method, network, None, [Forgetful()], [optimizer], jnp.array([1, 2, 3, 0])))
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    state = NoiseState(jnp.zeros((), jnp.int32), jnp.zeros((4, *SHAPE)), (surrogate,))
    batch = Batch(images, jnp.arange(20) % 4, jnp.arange(20))
    runs = [update(state, batch, jax.random.key(seed)) for seed in (0, 1, 0)]
    kernels = [np.asarray(after.surrogates[0].params["Dense_0"]["kernel"]) for after, _ in runs]
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    assert runs[0][1]["feature_distance"] == runs[1][1]["feature_distance"]  # measured in eval mode


def method_of(*arguments: str) -> Method:
    return method_from(build_parser().parse_args(["protect", "digits", "--out", "r", "--key", "k", *arguments]))


def test_transforms_are_named_on_the_command_line(capsys, tmp_path):
    assert method_of().transforms == ("crop-flip",)
    assert method_of("--transforms", "jpeg-10,cutmix").transforms == ("jpeg-10", "cutmix")
    assert method_of("--transforms", "none").transforms == ()
    folders = ["--out", str(tmp_path / "r"), "--key", str(tmp_path / "k")]
    assert main(["protect", "digits", *folders, "--transforms", "jpg-10"]) == 2
    assert "--transforms: unknown 'jpg-10': did you mean 'jpeg-10'?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
