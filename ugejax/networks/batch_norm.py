"""The one batch norm of all networks, with PyTorch's defaults, so that figures and weights carry over."""

from flax import linen as nn


def batch_norm(train: bool, name: str) -> nn.BatchNorm:
    """Batch norm of momentum 0.9 and epsilon 1e-5: PyTorch's defaults in Flax's terms.

    Its running variance is the biased one, where PyTorch keeps the unbiased one.

    Args:
        train: whether it uses the statistics of the batch and updates the running ones.
        name: of the submodule.
    """
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
