"""Undistillation: what the authorized network says about x + delta must not teach a student."""

import jax
import jax.numpy as jnp


def undistillation(logits_x: jax.Array, logits_u: jax.Array, labels: jax.Array, *, temperature: float) -> jax.Array:
    """Divergence of the authorized network's soft outputs beyond the label, to be maximised over delta.

    ``KL(q(x) || q(x_u))`` with ``q_k = exp(z_k / T) / sum over j != y of exp(z_j / T)`` for k != y: the label's logit
    is removed, the rest renormalised at temperature T.

    Source: UnGeneralizable Examples (Ye & Wang, CVPR 2024, arXiv 2404.14016) names the aim, soft outputs that differ
    beyond the label; this form is our choice. It is the non-target part of Decoupled Knowledge Distillation (Zhao et
    al., CVPR 2022, arXiv 2203.08679), between two inputs of one teacher instead of teacher and student. No factor T^2:
    the loss's weight carries it.

    The label is removed from the logits, not from the probabilities, so that a confident teacher (1 - p_y below
    rounding) loses nothing. At delta = 0 the value and its gradient are 0 (a minimum): start from a random delta. With
    two classes a single one is left beyond the label and the value is always 0.

    Args:
      logits_x: the authorized network's logits on the originals, z(x), float [B, K].
      logits_u: its logits on the released images, z(x_u), float [B, K].
      labels: true classes y, int [B], or the shares of the classes in mixed examples, float [B, K], where every class
        with a share counts as the label; an example in which all have one gets 0.
      temperature: T, above 0; distillation commonly uses 2 to 20.

    Returns:
      float [B], at least 0 up to rounding; without upper limit.
    """
    beyond = labels == 0 if labels.ndim == logits_x.ndim else jnp.arange(logits_x.shape[-1]) != labels[..., None]
    log_q_x = _log_softmax_where(logits_x / temperature, beyond)
    log_q_u = _log_softmax_where(logits_u / temperature, beyond)
    return jnp.sum(jnp.where(beyond, _divergence_terms(log_q_x, log_q_u), 0.0), axis=-1)


def _divergence_terms(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """``p d + q - p`` with ``d = log(p / q)``: the terms of KL(p || q), and what cancels in their sum.

    Alone, terms ``p d`` of nearly equal p and q are much larger than their sum, which float32 then gets wrong by
    percents. Where d is small these are ``p (exp(-d) - 1 + d)``, about ``p d^2 / 2``.
    """
    p, d = jnp.exp(log_p), log_p - log_q
    near = jnp.abs(d) < 1
    small = jnp.where(near, d, 0.0)  # so that no infinity reaches a gradient
    return jnp.where(near, p * (jnp.expm1(-small) + small), p * d + jnp.exp(log_q) - p)


def _log_softmax_where(logits: jax.Array, where: jax.Array) -> jax.Array:
    """Logarithm of softmax over the entries in ``where``; the others get 0, so that no infinity reaches a gradient."""
    log_sum = jax.nn.logsumexp(logits, axis=-1, where=where, keepdims=True)
    return jnp.where(where, logits - log_sum, 0.0)
