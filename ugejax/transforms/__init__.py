"""Transforms of images and labels: differentiable, for training with them and for optimising a perturbation under them.

Images are float [B, H, W, C] in [0, 1] and stay so. Where a transform is random, its `key` comes first, and what it
draws follows from the key and the shapes alone: the same key gives x and x + delta the same transform.
"""

from ugejax.transforms.geometry import crop_flip
from ugejax.transforms.registry import TRANSFORMS, Transform, compose, mixture, parse_transforms

__all__ = ["TRANSFORMS", "Transform", "compose", "crop_flip", "mixture", "parse_transforms"]
