"""Feature distances and the noises on logits: constants, references from optax, gradients."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugejax.losses import (
    class_prototypes,
    error_minimising,
    feature_cosine,
    feature_relative_l2,
    misalignment,
    targeted_error_maximising,
    wrong_class,
)

DISTANCES = [feature_cosine, feature_relative_l2]


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
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def image_pair():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 3, 3, 1)))
    return x, x + 0.1 * normal(1, *x.shape)


def check_gradient(fn, x):
    """Gradient of the sum of ``fn`` along a random direction, against central differences; call in x64."""
    direction = np.asarray(normal(8, *x.shape))

    @jax.jit
    def value(z):
        return jnp.sum(fn(z))

    measured = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
    assert abs(measured) > 1e-4
    np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(value))(x), direction), measured, rtol=1e-7)


def test_feature_distances_worked_constants():
    phi_x = jnp.array([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    phi_u = jnp.array([[6.0, 8.0], [0.0, 2.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(jax.jit(feature_cosine)(phi_x, phi_u), [0, 1, 2, 0, 1], atol=1e-7)
    # The mean squared norm of phi_x is (25 + 1 + 1) / 5.
    np.testing.assert_allclose(
        jax.jit(feature_relative_l2)(phi_x, phi_u), np.array([25, 5, 4, 0, 9]) * 5 / 27, rtol=1e-6
    )


def test_feature_cosine_agrees_with_optax():
    phi_x, phi_u = normal(0, 2, 7, 20)
    np.testing.assert_allclose(
        jax.jit(feature_cosine)(phi_x, phi_u), optax.losses.cosine_distance(phi_x, phi_u), rtol=1e-5
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_feature_maps_are_flattened_and_shapes_must_agree(distance):
    phi_x, phi_u = normal(0, 2, 3, 2, 2, 5)
    np.testing.assert_allclose(distance(phi_x, phi_u), distance(phi_x.reshape(3, -1), phi_u.reshape(3, -1)), rtol=1e-6)
    with pytest.raises(ValueError, match="differ in shape"):
        distance(phi_x, phi_u[:2])


@pytest.mark.parametrize("distance", DISTANCES)
def test_feature_distance_gradients(x64, distance):
    x, x_u = image_pair()
    check_gradient(lambda images: distance(features(x), features(images)), x_u)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_feature_distance_gradient_is_finite_at_delta_zero(distance, scale):
    """Also where the features themselves vanish."""
    x, _ = image_pair()

    @jax.jit
    @jax.grad
    def gradient(images):
        return jnp.sum(distance(scale * features(x), scale * features(images)))

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
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(loss(logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(loss(logits, labels)[:2], [np.log(3), 2e4], rtol=1e-12)
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda z: jnp.sum(loss(z, labels))))(logits)))
    _, x_u = image_pair()
    check_gradient(lambda images: loss(features(images, 3), jnp.array([1, 2, 0, 0])), x_u)


@pytest.mark.parametrize("num_classes", [2, 3, 200])
def test_wrong_class_is_a_derangement_fixed_by_the_key(num_classes):
    labels = jnp.arange(num_classes)
    wrong = np.asarray(wrong_class(jax.random.key(5), labels, num_classes=num_classes))
    assert wrong.dtype == jnp.int32
    assert not np.any(wrong == labels)
    assert sorted(wrong.tolist()) == labels.tolist()
    shuffled = np.array([1, 0, 1, 1])
    np.testing.assert_array_equal(wrong_class(jax.random.key(5), shuffled, num_classes=num_classes), wrong[shuffled])


def test_wrong_class_depends_on_the_key_and_maps_over_keys():
    labels = jnp.arange(10)
    keys = jax.random.split(jax.random.key(0), 200)
    wrong = np.asarray(jax.jit(jax.vmap(lambda key: wrong_class(key, labels, num_classes=10)))(keys))
    assert not np.any(wrong == labels)
    np.testing.assert_array_equal(wrong[3], wrong_class(keys[3], labels, num_classes=10))
    # Every class meets each of the nine others: 200 draws miss one of 90 pairs with probability below 1e-8.
    assert all(set(wrong[:, label].tolist()) == set(range(10)) - {label} for label in range(10))


@pytest.mark.parametrize("loss", [error_minimising, targeted_error_maximising])
def test_cross_entropies_of_shares(loss):
    logits, labels = normal(4, 4, 3), jnp.array([0, 2, 1, 1])
    np.testing.assert_allclose(loss(logits, jax.nn.one_hot(labels, 3)), loss(logits, labels), rtol=1e-6)
    shares = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(3), 4), jnp.float32)
    np.testing.assert_allclose(loss(logits, shares), optax.softmax_cross_entropy(logits, shares), rtol=1e-5)


def test_wrong_class_needs_two_classes():
    with pytest.raises(ValueError, match="at least 2"):
        wrong_class(jax.random.key(0), jnp.zeros(3, jnp.int32), num_classes=1)


def test_jit_and_vmap_agree_with_plain_calls():
    phi_x, phi_u = normal(0, 2, 2, 4, 6)
    labels = jnp.array([[0, 1, 2, 3], [5, 4, 3, 2]])
    prototypes = normal(1, 6, 6)
    calls = [
        (feature_cosine, (phi_x, phi_u)),
        (feature_relative_l2, (phi_x, phi_u)),
        (error_minimising, (phi_u, labels)),
        (targeted_error_maximising, (phi_u, labels)),
        (lambda phi, wrong: misalignment(phi, prototypes, wrong), (phi_u, labels)),
        (lambda phi, y: class_prototypes(phi, y, num_classes=6), (phi_u, labels)),
    ]
    for fn, args in calls:
        mapped = jax.jit(jax.vmap(fn))(*args)
        for row in range(2):
            np.testing.assert_allclose(mapped[row], fn(*(arg[row] for arg in args)), rtol=1e-5, atol=1e-6)
