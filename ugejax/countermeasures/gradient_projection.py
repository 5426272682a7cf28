"""A hacker who trains a network on the release, asks it what in an image tells the class, and projects that out.

He knows nothing of the method. What a network learns first from a release is the perturbation, so that its gradient at
an image points along that image's own. It costs one more training, of a small network.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.batches import at_a_time, in_pieces
from ugejax.compiler import compiled, kept, training_dtype
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import TINY, natural_statistics
from ugejax.networks import initial_variables
from ugejax.networks.classifier import Classifier
from ugejax.networks.speedrun import SpeedrunBody
from ugejax.training import decode, default_recipe, fit, initial_state, make_train_step, prepared

WIDTHS = (24, 48, 48)  # of a `speedrun` network: a third of its own
EPOCHS, BATCH = 8, 250
STEPS = 4  # projections of an image


def project_gradients_out(data: HackerData) -> HackerData:
    """Project out of every training image the gradients by which a network trained on the release names its class.

    The gradient g is that of the label's logit less the logarithm of the sum of the others' exponentials. The image
    loses the multiple of g that is most likely in it, behind the spectrum of the release: g (g' S x) / (g' S g), where
    S is the inverse covariance. An image is projected `STEPS` times, each time by the gradient at what is left, but
    not once the network no longer names its class. Test images, whose labels nobody knows, stay as they are.
    """
    x, natural = decode(data.images), natural_statistics(decode(data.reference))
    variance = natural.spectrum(x).var(axis=0) + TINY
    module, variables = trained(data)
    told = _margins_and_gradients(module)

    def projected(part: slice, _: int) -> np.ndarray:
        images, y = x[part], jnp.asarray(data.labels[part])
        for _ in range(STEPS):
            margins, gradients = (np.asarray(found) for found in told(variables, jnp.asarray(images), y))
            shapes = natural.spectrum(gradients + natural.mean)
            weighted = shapes / variance
            amounts = (weighted * natural.spectrum(images)).sum(axis=(1, 2, 3))
            amounts /= (weighted * shapes).sum(axis=(1, 2, 3)) + 1e-30
            amounts = np.where(margins > 0, amounts, 0).astype(np.float32)
            images = images - amounts[:, None, None, None] * gradients
        return images

    pieces = in_pieces(projected, len(x), at_a_time(x.shape[1:], most=500))
    return replace(data, images=np.concatenate([images for _, images in pieces]))


def trained(data: HackerData) -> tuple[Classifier, Any]:
    """A small network that was trained on the release, and its variables; both follow from the seed."""
    module = Classifier(SpeedrunBody(WIDTHS), int(data.labels.max()) + 1)
    recipe = replace(default_recipe("speedrun"), epochs=EPOCHS, batch_size=BATCH)
    init_key, train_key = jax.random.split(jax.random.key(data.seed))
    variables = prepared(module, initial_variables(module, init_key, data.images.shape[1:]), data.images)
    optimizer = recipe.build_optimizer(len(data.images))
    step = make_train_step(module, optimizer, recipe, dtype=training_dtype())
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    return module, fit(step, initial_state(variables, optimizer), images, labels, recipe, train_key).variables


@kept
def _margins_and_gradients(module: Classifier) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(variables, images x, labels y) -> how far a network names the labels [B], and the gradients of that by x."""

    def margins(x, variables, y):
        logits: Any = module.apply(variables, x, train=False)
        own = jax.nn.one_hot(y, logits.shape[-1], dtype=bool)
        named = jnp.where(own, logits, 0).sum(axis=-1) - jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
        return named.sum(), named

    def told(variables, x, y):
        gradients, named = jax.grad(margins, has_aux=True)(x, variables, y)
        return named, gradients

    return compiled(told)
