"""Error messages for images whose size a network cannot take, with what the user can do."""

import jax

from ugejax.errors import UserError


def require_side(x: jax.Array, least: int, network: str) -> None:
    """Refuse images x [B, H, W, C] lower or narrower than `least`.

    Raises:
        UserError: they are.
    """
    _, height, width, _ = x.shape
    if min(height, width) < least:
        raise UserError(
            f"images of {height}x{width} are too small for {network}: choose another network, or protect with "
            f"`image_size` {least}"
        )


def require_tiles(x: jax.Array, patch: int) -> None:
    """Refuse images x [B, H, W, C] that do not divide into square patches of side `patch`.

    Raises:
        UserError: they do not.
    """
    _, height, width, _ = x.shape
    if height % patch or width % patch:
        raise UserError(
            f"images of {height}x{width} do not divide into patches of {patch}x{patch}: choose another network, or "
            f"protect with a multiple of {patch} as `image_size`"
        )
