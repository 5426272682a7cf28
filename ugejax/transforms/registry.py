"""The transforms by the names that recipes and methods use: a new one is one function and one line in `TRANSFORMS`."""

import functools
from collections.abc import Callable

import jax

from ugejax.errors import UserError
from ugejax.registry import Registry, split_names, unknown
from ugejax.transforms.filters import blur, grey
from ugejax.transforms.geometry import crop_flip, resize
from ugejax.transforms.jpeg import jpeg
from ugejax.transforms.mixing import cutmix, cutout, mixup
from ugejax.transforms.quantisation import bit_depth
from ugejax.transforms.rand_augment import rand_augment
from ugejax.transforms.ueraser import ueraser

Transform = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _random(transform: Callable[[jax.Array, jax.Array], jax.Array]) -> Transform:
    return lambda key, x, y: (transform(key, x), y)


def _fixed(transform: Callable[[jax.Array], jax.Array]) -> Transform:
    return lambda key, x, y: (transform(x), y)


TRANSFORMS: Registry[Transform] = Registry(
    "transform",
    {
        "crop-flip": _random(crop_flip),
        "cutout": _random(cutout),
        "mixup": mixup,
        "cutmix": cutmix,
        "blur": _fixed(blur),
        "grey": _fixed(grey),
        "bdr": _fixed(functools.partial(bit_depth, bits=2)),
        "jpeg-10": _fixed(functools.partial(jpeg, quality=10)),
        "jpeg-30": _fixed(functools.partial(jpeg, quality=30)),
        "jpeg-50": _fixed(functools.partial(jpeg, quality=50)),
        "jpeg-75": _fixed(functools.partial(jpeg, quality=75)),
        "resize": _random(resize),
        "rand-augment": _random(rand_augment),
        "ueraser": _random(ueraser),
    },
)


def compose(names: tuple[str, ...]) -> Transform:
    """All the named transforms in turn, with independent keys; without names, nothing.

    Args:
        names: keys of `TRANSFORMS`.

    Returns:
        transform(key, x float [B, H, W, C] in [0, 1], y float [B, K]) -> (x, y): pure, for jit, vmap and grad.
    """
    transforms = [TRANSFORMS[name] for name in names]

    def transform(key, x, y):
        for one, own_key in zip(transforms, jax.random.split(key, max(1, len(transforms))), strict=False):
            x, y = one(own_key, x, y)
        return x, y

    return transform


def mixture(names: tuple[str, ...]) -> Transform:
    """One of the named transforms, drawn uniformly in each call; without names, nothing.

    Descending a loss under it descends the loss's expectation over the transforms (Athalye et al., Synthesizing Robust
    Adversarial Examples, ICML 2018, arXiv 1707.07397, equation 2), one sample a call.

    Args:
        names: keys of `TRANSFORMS`.

    Returns:
        transform(key, x float [B, H, W, C] in [0, 1], y float [B, K]) -> (x, y): pure, for jit, vmap and grad. Under
        vmap over keys every transform is computed and one result kept.
    """
    transforms = [TRANSFORMS[name] for name in names]

    def transform(key, x, y):
        if not transforms:
            return x, y
        choice_key, own_key = jax.random.split(key)
        return jax.lax.switch(jax.random.randint(choice_key, (), 0, len(transforms)), transforms, own_key, x, y)

    return transform


def parse_transforms(text: str, argument: str, setting: str | None = None) -> tuple[str, ...]:
    """A comma-separated list of transforms, checked; `none` alone stands for no transform.

    Args:
        text: what the user wrote.
        argument: name of the argument that he wrote it for, such as "transforms".
        setting: name of the setting among those that the argument takes, if it takes several.

    Raises:
        UserError: a name is unknown, or there is none.
    """
    names = split_names(text)
    if names == ("none",):
        return ()
    for name in names:
        if name not in TRANSFORMS:
            choices = f"{', '.join(TRANSFORMS)}, or none alone"
            raise unknown(name, TRANSFORMS, choices=choices, argument=argument, value=setting)
    if not names:
        raise UserError("names no transform; `none` stands for no transform", argument=argument, value=setting)
    return names
