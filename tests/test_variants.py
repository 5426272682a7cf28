"""Every public function of arrays with jit and without, and on a device: one table, on images of 8x8."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

import ugejax
from ugejax import losses, transforms, views

KEY, SHAPE = jax.random.key(0), (8, 8, 3)
X = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
X_U8 = jnp.round(255 * X).astype(jnp.uint8)
DELTA = 0.05 * jax.random.normal(jax.random.key(2), (6, *SHAPE))
Y = jnp.arange(6) % 3
SHARES = jax.nn.one_hot(Y, 3)
LOGITS = jax.random.normal(jax.random.key(3), (2, 6, 3))
PHI = jax.random.normal(jax.random.key(4), (2, 6, 5))
GRADS = [{"w": jax.random.normal(key, (4, 3)), "b": jax.random.normal(key, (3,))} for key in jax.random.split(KEY)]
DITHER = views.dither_view(b"secret 0", SHAPE, salt=bytes(16), step=24)
LINEAR = views.linear_view(b"secret 0", SHAPE)
CONTENT = views.content_view(b"secret 0", SHAPE)
LINEAR_WEIGHTS = jax.random.normal(KEY, (192, 3))


def loss_of(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return losses.error_minimising(x.reshape(len(x), -1) @ w, y).mean()


# Each (function of arrays, arrays); what is not an array is set beforehand.
TABLE = {
    "feasible": (lambda d, x: ugejax.feasible(d, x, DITHER, eps=0.03), DELTA, X_U8 / 255),
    "feasible in a subspace": (lambda d, x: ugejax.feasible(d, x, LINEAR, eps=0.03, norm="l2"), DELTA, X),
    "allowed": (lambda x: ugejax.allowed(x, DITHER, eps=0.03), X_U8 / 255),
    "round_to_8bit": (lambda x, d: ugejax.round_to_8bit(x, d, lower=-0.03, upper=0.03), X_U8, DELTA),
    "round_within": (
        lambda k, x, d: ugejax.round_within(k, x, d, CONTENT, eps=0.03, norm="linf"), jax.random.split(KEY, 6), X_U8,
        DELTA,
    ),
    "project_l2": (lambda d: ugejax.project_l2(d, 0.3), DELTA),
    "project_linf": (lambda d: ugejax.project_linf(d, 0.03), DELTA),
    "realised": (ugejax.realised, DELTA),
    "decode": (ugejax.decode, X_U8),
    "release_batch": (
        lambda d, x, i, k: ugejax.release_batch(ugejax.Method(), LINEAR, d, x, i, k), DELTA, X_U8, jnp.arange(6), KEY,
    ),
    **{f"view {i}": (view.apply, X_U8 / 255) for i, view in enumerate((DITHER, LINEAR, CONTENT, views.IdentityView()))},
    "error_minimising": (losses.error_minimising, LOGITS[0], Y),
    "targeted_error_maximising": (losses.targeted_error_maximising, LOGITS[0], SHARES),
    "undistillation": (lambda a, b, y: losses.undistillation(a, b, y, temperature=4.0), LOGITS[0], LOGITS[1], Y),
    "feature_cosine": (losses.feature_cosine, PHI[0], PHI[1]),
    "misalignment": (losses.misalignment, PHI[0], PHI[1, :3], Y),
    "class_prototypes": (lambda phi, y: losses.class_prototypes(phi, y, num_classes=3), PHI[0], Y),
    "relative_l2": (losses.relative_l2, *GRADS),
    "filter_cosine": (losses.filter_cosine, *GRADS),
    "gradient_matching": (
        lambda w, x, x_u, y: losses.gradient_matching(loss_of, w, x, x_u, y, distance=losses.relative_l2),
        LINEAR_WEIGHTS, X, X + DELTA, Y,
    ),
    "gradient_matching_and_grad": (
        lambda w, x_u, y, g: losses.gradient_matching_and_grad(loss_of, w, x_u, y, g, distance=losses.filter_cosine),
        LINEAR_WEIGHTS, X + DELTA, Y, LINEAR_WEIGHTS[::-1],
    ),
    "gradient_matching_to": (
        lambda w, x_u, y, g: losses.gradient_matching_to(g, loss_of, w, y, distance=losses.relative_l2)(x_u),
        LINEAR_WEIGHTS, X + DELTA, Y, LINEAR_WEIGHTS[::-1],
    ),
    **{
        f"transform {name}": (transforms.compose((name,)), KEY, X, SHARES)
        for name in transforms.TRANSFORMS if not name.startswith("rand-augment")
    },
}  # fmt: skip
# Bulk work, each image by itself: also as a row of a device of `jax.pmap`.
IN_BULK = (
    "feasible",
    "feasible in a subspace",
    "round_to_8bit",
    "release_batch",
    "view 0",
    "view 1",
    "view 2",
    "decode",
)


@functools.cache
def plain(name: str):
    """What the function of that name gives, called as it is."""
    function, *arrays = TABLE[name]
    return function(*arrays)


def assert_close(got, wanted) -> None:
    chex.assert_trees_all_equal_shapes_and_dtypes(got, wanted)
    chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=2e-6)


class Variants(chex.TestCase):
    """The table under each variant; a variant is a test of its own."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    @parameterized.parameters(sorted(TABLE))
    def test_a_function_gives_the_same_under_each_variant(self, name):
        function, *arrays = TABLE[name]
        got = self.variant(function)(*arrays)
        assert_close(got, plain(name))
        for leaf in jax.tree.leaves(got):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                assert np.isfinite(leaf).all()


def test_bulk_work_may_be_shared_out_among_devices():
    for name in IN_BULK:
        function, *arrays = TABLE[name]
        shared = [None if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else 0 for array in arrays]
        rows = [array if axis is None else np.asarray(array)[None] for array, axis in zip(arrays, shared, strict=True)]
        got = jax.pmap(function, in_axes=tuple(shared), devices=jax.devices()[:1])(*rows)
        assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[0], got), plain(name))


def test_whatever_is_exported_from_losses_is_in_the_table():
    assert set(losses.__all__) <= set(TABLE)


def test_images_are_of_the_range_that_is_promised():
    for name in TABLE:
        if name.startswith("transform"):
            x, y = plain(name)
            assert x.shape == X.shape and float(x.min()) >= 0 and float(x.max()) <= 1
            np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-5)
