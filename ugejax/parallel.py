"""Several devices: bulk work on images by `jax.shard_map`, and the mesh over which a training's batches are spread.

On one device both do nothing. On several the numbers are those of one, but for the order in which sums are taken:
bulk work treats every image by itself, and a batch that is spread remains one batch (its batch norm, its mixing of
images, its random numbers), of which every device computes a part.

Bulk work is of a process's own devices, the mesh is of those of all processes: each reads the same batch, since it is
small beside the work on it, and holds the same weights, so that any of them can write the checkpoint.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ugejax.compiler import kept

_AXIS = "data"
_ROWS = "rows"  # of bulk work; `spread` within it would take the axis of batches for its own


def in_bulk(function: Callable[..., jax.Array], shared: Any, *, batch_size: int) -> Callable[..., np.ndarray]:
    """A function of images, each by itself, on all local devices at once.

    Args:
        function: function(shared, *arrays [B, ...]) -> [B, ...], pure; no row may depend on another one or on B.
        shared: pytree of arrays that every device has a copy of.
        batch_size: rows at a time, over all devices together.

    Returns:
        run(*arrays [n, ...]) -> [n, ...] for n from 1 to batch_size. A ragged batch is filled up with its last row,
        and a mask takes the filling out again, so that one program serves all.
    """
    devices = jax.local_devices()
    mapped, whole, by_rows = _mapped(function, *devices)
    each, copies = -(-batch_size // len(devices)), jax.device_put(shared, whole)

    def run(*arrays: np.ndarray) -> np.ndarray:
        rows = np.arange(each * len(devices))
        real = rows < len(arrays[0])
        filled = np.minimum(rows, len(arrays[0]) - 1)
        # Put there by hand: of several processes jax.jit takes no NumPy array for rows.
        parts = jax.device_put(tuple(np.asarray(array)[filled] for array in arrays), by_rows)
        return np.asarray(mapped(copies, parts))[real]

    return run


@kept
def _mapped(
    function: Callable[..., jax.Array], *devices: Any
) -> tuple[Callable[..., jax.Array], NamedSharding, NamedSharding]:
    """The compiled (shared, arrays [B, ...]) -> [B, ...] on these devices, and how each of the two lies on them."""
    mesh = Mesh(np.array(devices), (_ROWS,))
    specs = PartitionSpec(), PartitionSpec(_ROWS)

    def on_one(shared, arrays):
        return function(shared, *arrays)

    # No row depends on another one, so that nothing has to be said of what devices have in common.
    mapped = jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=specs, out_specs=specs[1], check_vma=False))
    return mapped, NamedSharding(mesh, specs[0]), NamedSharding(mesh, specs[1])


def spread(batch: Any) -> Any:
    """A batch, a pytree of arrays [B, ...], with B shared out among the devices of `over_devices`.

    For use in a function that is traced; anywhere else than in `over_devices` the batch is left alone. B need not be a
    multiple of the number of devices.
    """
    if _AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return batch
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec(_AXIS)), batch)


def over_devices() -> contextlib.AbstractContextManager[Any]:
    """In this context `spread` spreads over all devices; with one device it changes nothing."""
    return jax.set_mesh(_mesh()) if jax.device_count() > 1 else contextlib.nullcontext()


def on_all_devices(tree: Any) -> Any:
    """Arrays of which every device has a copy; with one device they are left alone.

    Of several processes each must give the same values.
    """
    if jax.device_count() == 1:
        return tree
    sharding = NamedSharding(_mesh(), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def copy(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # on all devices already
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(copy(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        # jax.device_put would have all processes compare their values, each time.
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])

    return jax.tree.map(copy, tree)


def here(tree: Any) -> Any:
    """Arrays that `on_all_devices` or a training has left on all devices, as this process's own."""
    return jax.tree.map(np.asarray, tree) if jax.process_count() > 1 else tree


def replicated(tree: Any) -> Any:
    """For use as `spread`: arrays of which every device has the whole when the traced function ends."""
    if _AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)


def averaged(tree: Any, axis_name: str | None) -> Any:
    """The mean of arrays over the shards of an axis of `jax.pmap` or `jax.vmap`; without one they are left alone."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def summed(tree: Any, axis_name: str | None) -> Any:
    """The sum of arrays over the shards of an axis; see `averaged`."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gathered(tree: Any, axis_name: str | None) -> Any:
    """The rows of all shards of an axis, those of the first one first; see `averaged`."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def of_shard(key: jax.Array, axis_name: str | None) -> jax.Array:
    """A PRNG key for what a shard draws for its own images; without an axis the key itself."""
    return key if axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(axis_name))


def _mesh() -> Mesh:
    # Auto: jax.make_mesh would have explicit axes, by which every operation on a batch has to name its sharding.
    return jax.make_mesh((jax.device_count(),), (_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices())
