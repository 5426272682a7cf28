"""What a network takes from the images that it is about to be trained on, before the first step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.batches import at_a_time
from ugejax.data.stream import Images
from ugejax.training.step import decode

# Images are looked at up to so many, evenly spaced, since sets may be sorted by class.
MOST = 5000


def prepared(module: Any, variables: Any, images: jax.Array | Images) -> Any:
    """The variables with which a network's training on these images begins.

    Every training begins with it. It changes a network whose `prepare` takes something from the images, such as the
    whitening filters of `speedrun`, and no other one; what was taken before stays, so that fine-tuning changes nothing.
    A key stores theta_0 as it was before this.

    Args:
        module: the network; without `prepare` it gets its variables back, see `Classifier.prepare`.
        variables: freshly initialised or loaded.
        images: training images as the network sees them, uint8 or float32 [N, H, W, C] at rest, or a stream.
    """
    if not hasattr(module, "prepare"):
        return variables
    chosen = np.arange(0, len(images), -(-len(images) // MOST))
    size = at_a_time(images.shape[1:], most=500)
    starts = range(0, len(chosen), size)
    return module.prepare(variables, (decode(jnp.asarray(images[chosen[i : i + size]])) for i in starts))
