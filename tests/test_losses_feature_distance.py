"""Feature distances and the noises on logits: constants, references from optax, gradients."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugejax import losses

# One program each in place of one for each operation; `test_variants` has the same without.
class_prototypes = jax.jit(losses.class_prototypes, static_argnames="num_classes")
error_minimising = jax.jit(losses.error_minimising)
feature_cosine = jax.jit(losses.feature_cosine)
misalignment = jax.jit(losses.misalignment)
targeted_error_maximising = jax.jit(losses.targeted_error_maximising)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def features(images, width=5):
    """A smooth two-layer feature extractor with fixed weights."""
    flat = images.reshape(images.shape[0], -1)
    rng = np.random.default_rng(3)
    return jnp.tanh(flat @ jnp.asarray(rng.normal(size=(flat.shape[1], 6)))) @ jnp.asarray(rng.normal(size=(6, width)))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def image_pair():
    x = np.random.default_rng(0).uniform(size=(4, 3, 3, 1))
    return x, x + 0.1 * normal(1, *x.shape)


def check_gradient(fn, x):
    """Gradient of the sum of ``fn`` along a random direction, against central differences; call in x64."""
    direction = normal(8, *x.shape)

    @jax.jit
    def value(z):
        return jnp.sum(fn(z))

    measured = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
    assert abs(measured) > 1e-4
    np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(value))(x), direction), measured, rtol=1e-7)


def test_feature_distances_worked_constants():
    phi_x = jnp.array([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    phi_u = jnp.array([[6.0, 8.0], [0.0, 2.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(feature_cosine(phi_x, phi_u), [0, 1, 2, 0, 1], atol=1e-7)


def test_feature_cosine_agrees_with_optax():
    phi_x, phi_u = normal(0, 2, 7, 20)
    np.testing.assert_allclose(
        feature_cosine(phi_x, phi_u), jax.jit(optax.losses.cosine_distance)(phi_x, phi_u), rtol=1e-5
    )


def test_feature_maps_are_flattened_and_shapes_must_agree():
    phi_x, phi_u = normal(0, 2, 3, 2, 2, 5)
    flat = feature_cosine(phi_x.reshape(3, -1), phi_u.reshape(3, -1))
    np.testing.assert_allclose(feature_cosine(phi_x, phi_u), flat, rtol=1e-6)
    with pytest.raises(ValueError, match="differ in shape"):
        feature_cosine(phi_x, phi_u[:2])


def test_feature_distance_gradients(x64):
    x, x_u = image_pair()
    check_gradient(lambda images: feature_cosine(features(x), features(images)), x_u)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_feature_distance_gradient_is_finite_at_delta_zero(scale):
    """Also where the features themselves vanish."""
    x, _ = image_pair()

    @jax.jit
    @jax.grad
    def gradient(images):
        return jnp.sum(feature_cosine(scale * features(x), scale * features(images)))

    np.testing.assert_allclose(gradient(x), 0, atol=1e-5)


def test_class_prototypes_are_class_means():
    phi = jnp.array([[1.0, 0.0], [3.0, 4.0], [5.0, 5.0]])
    prototypes = class_prototypes(phi, jnp.array([2, 2, 0]), num_classes=3)
    np.testing.assert_allclose(prototypes, [[5, 5], [0, 0], [2, 2]])


def test_misalignment_worked_constants_and_gradient(x64):
    prototypes = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    phi_u = jnp.array([[0.0, 5.0], [0.0, 5.0], [3.0, 4.0]])
    np.testing.assert_allclose(misalignment(phi_u, prototypes, jnp.array([2, 1, 0])), [0, 1, 0.4], atol=1e-12)
    _, x_u = image_pair()
    check_gradient(lambda images: misalignment(features(images, 2), prototypes, jnp.array([2, 0, 2, 0])), x_u)


@pytest.mark.parametrize("loss", [error_minimising, targeted_error_maximising])
def test_cross_entropies_agree_with_optax_and_stay_finite(x64, loss):
    logits = jnp.array([[0.0, 0.0, 0.0], [1e4, 0.0, -1e4], [1.0, -2.0, 0.5]])
    labels = jnp.array([1, 2, 0])
    expected = jax.jit(optax.losses.softmax_cross_entropy_with_integer_labels)(logits, labels)
    np.testing.assert_allclose(loss(logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(loss(logits, labels)[:2], [np.log(3), 2e4], rtol=1e-12)
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda z: jnp.sum(loss(z, labels))))(logits)))
    _, x_u = image_pair()
    check_gradient(lambda images: loss(features(images, 3), jnp.array([1, 2, 0, 0])), x_u)


@pytest.mark.parametrize("loss", [error_minimising, targeted_error_maximising])
def test_cross_entropies_of_shares(loss):
    logits, labels = normal(4, 4, 3), np.array([0, 2, 1, 1])
    np.testing.assert_allclose(loss(logits, np.eye(3, dtype=np.float32)[labels]), loss(logits, labels), rtol=1e-6)
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    np.testing.assert_allclose(loss(logits, shares), jax.jit(optax.softmax_cross_entropy)(logits, shares), rtol=1e-5)


def test_jit_and_vmap_agree_with_plain_calls():
    phi_x, phi_u = normal(0, 2, 2, 4, 6)
    labels = np.array([[0, 1, 2, 3], [5, 4, 3, 2]])
    prototypes = normal(1, 6, 6)
    calls = [
        (feature_cosine, (phi_x, phi_u)),
        (error_minimising, (phi_u, labels)),
        (targeted_error_maximising, (phi_u, labels)),
        (lambda phi, wrong: misalignment(phi, prototypes, wrong), (phi_u, labels)),
        (lambda phi, y: class_prototypes(phi, y, num_classes=6), (phi_u, labels)),
    ]
    for fn, args in calls:
        mapped = jax.jit(jax.vmap(fn))(*args)
        for row in range(2):
            np.testing.assert_allclose(mapped[row], fn(*(arg[row] for arg in args)), rtol=1e-5, atol=1e-6)
