"""Feature distance: networks other than the authorized one should learn the wrong thing from x + delta.

Source: UnGeneralizable Examples (Ye & Wang, CVPR 2024, arXiv 2404.14016): in a feature space phi common to other
networks (CLIP's image tower there) L_fd pushes phi(x + delta) away from phi(x), with a misalignment towards another
class. What is known of the paper does not give the distance or how the other class is chosen: those are our choice.
The two losses on logits are the noises of earlier work, for surrogates that are trained jointly or beforehand.

Features are float [B, ...] (flattened per example), logits float [B, K], labels int [B] in [0, K) or, where stated,
float [B, K]: the shares of the classes in an example, which sum to 1 (mixup and the like).
"""

import jax
import jax.numpy as jnp
import optax

from ugejax.losses._cosine import one_minus_cosine


def feature_cosine(phi_x: jax.Array, phi_u: jax.Array) -> jax.Array:
    """Cosine distance of the features of released images to those of their originals, to be maximised.

    ``1 - <phi(x), phi(x_u)> / (|phi(x)| |phi(x_u)|)``. The form is our choice. At delta = 0 it is at its minimum,
    where its gradient is 0: start from a random delta.

    Args:
      phi_x: features of the originals, float [B, ...].
      phi_u: features of the released images, the same shape.

    Returns:
      float [B] in [0, 2]; where one of the two is zero 1, where both are 0.

    Raises:
      ValueError: the shapes differ.
    """
    phi_x, phi_u = _flat_pair(phi_x, phi_u)
    return one_minus_cosine(phi_x, phi_u, axis=-1)


def class_prototypes(phi: jax.Array, labels: jax.Array, *, num_classes: int) -> jax.Array:
    """Mean feature of each class, the usual prototype (Snell et al., NeurIPS 2017, arXiv 1703.05175, equation 1).

    Args:
      phi: features of originals, float [N, ...].
      labels: their classes, int [N].
      num_classes: how many classes there are, K.

    Returns:
      float [K, F] with F the flattened feature size; zeros for a class without examples.
    """
    phi = phi.reshape(phi.shape[0], -1)
    totals = jax.ops.segment_sum(phi, labels, num_segments=num_classes)
    counts = jnp.bincount(labels, length=num_classes)
    return totals / jnp.maximum(counts, 1).astype(phi.dtype)[:, None]


def misalignment(phi_u: jax.Array, prototypes: jax.Array, labels_wrong: jax.Array) -> jax.Array:
    """Cosine distance of released features to a wrong class's prototype, to be minimised.

    ``1 - <phi(x_u), c_k> / (|phi(x_u)| |c_k|)`` with k a wrong class of the example. The paper names the misalignment;
    its form is our choice.

    Args:
      phi_u: features of the released images, float [B, ...].
      prototypes: float [K, F], as `class_prototypes` gives them.
      labels_wrong: the class towards which each example is pushed, int [B].

    Returns:
      float [B] in [0, 2].
    """
    phi_u = phi_u.reshape(phi_u.shape[0], -1)
    return one_minus_cosine(phi_u, jnp.take(prototypes, labels_wrong, axis=0), axis=-1)


def error_minimising(logits_u: jax.Array, labels: jax.Array) -> jax.Array:
    """Error-minimising noise: the loss of a jointly trained surrogate on its true label, to be minimised over delta.

    ``l(f(x + delta), y)`` with l the cross-entropy: once delta has done the work there is nothing left to learn.
    Huang et al., Unlearnable Examples, ICLR 2021 (arXiv 2101.04898), the inner minimisation.

    Args:
      logits_u: the surrogate's logits on released images, float [B, K].
      labels: true classes, int [B], or their shares, float [B, K].

    Returns:
      float [B], at least 0.
    """
    return _cross_entropy(logits_u, labels)


def targeted_error_maximising(logits_u: jax.Array, target_labels: jax.Array) -> jax.Array:
    """Targeted adversarial poison: the loss of a clean-trained surrogate at a wrong label, to be minimised over delta.

    ``l(f(x + delta), g(y))`` with l the cross-entropy and g a permutation of the classes without fixed point: the
    released image carries the features of another class under its true label. Fowl et al., Adversarial Examples Make
    Strong Poisons, NeurIPS 2021 (arXiv 2106.10807), the targeted objective.

    Args:
      logits_u: the surrogate's logits on released images, float [B, K].
      target_labels: wrong classes, int [B], or their shares, float [B, K]: in mixed examples each class's share goes
        to its wrong class.

    Returns:
      float [B], at least 0.
    """
    return _cross_entropy(logits_u, target_labels)


def _flat_pair(phi_x: jax.Array, phi_u: jax.Array) -> tuple[jax.Array, jax.Array]:
    if phi_x.shape != phi_u.shape:
        raise ValueError(f"features of originals {phi_x.shape} and of released images {phi_u.shape} differ in shape")
    return phi_x.reshape(phi_x.shape[0], -1), phi_u.reshape(phi_u.shape[0], -1)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    if labels.ndim == logits.ndim:
        return optax.softmax_cross_entropy(logits, labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
