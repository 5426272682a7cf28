"""The loop over epochs, the same on every backend in what it computes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ugejax.batches import at_a_time, in_pieces
from ugejax.compiler import compiled, compiler_options, kept, on_cpu
from ugejax.data.stream import Images, ImageStream
from ugejax.errors import UserError
from ugejax.memory import check_fits, undivided_batches
from ugejax.parallel import on_all_devices, over_devices, replicated, spread
from ugejax.training.mirror import alternate
from ugejax.training.recipe import Recipe
from ugejax.training.step import Batch, TrainState, decode


def take(images: jax.Array, labels: jax.Array, entries: jax.Array) -> Batch:
    """The batch of these entries of an epoch's order.

    Args:
        images: uint8 or float [N, H, W, C].
        labels: int32 [N] or float [N, K].
        entries: int32 [B]: i for image i, ~i for image i mirrored, see `ugejax.training.mirror`.
    """
    index = jnp.maximum(entries, ~entries)
    x = images[index]
    return Batch(jnp.where((entries < 0)[:, None, None, None], x[:, :, ::-1], x), labels[index], index)


def on_resident(step: Callable[..., Any], batch_size: int) -> Callable[..., Any]:
    """The step (state, batch, key) with images that lie on the device: (state, images, labels, order, key).

    It steps on the batch of the epoch's order, int32 [N], that the state's step has come to. The arrays that a
    `jax.tree_util.Partial` binds stay bound.
    """
    step = step if isinstance(step, Partial) else Partial(step)
    return Partial(_on_resident(step.func, batch_size), *step.args)


@kept
def _on_resident(function: Callable[..., Any], batch_size: int) -> Callable[..., Any]:
    def step(*arguments):
        *bound, state, images, labels, order, key = arguments
        size = min(batch_size, order.shape[0])
        position = state.step % (order.shape[0] // size) * size
        batch = take(images, labels, jax.lax.dynamic_slice(order, (position,), (size,)))
        return function(*bound, state, spread(batch), key)

    return step


def run_steps(step: Callable[..., Any], batch_size: int | None = None) -> Callable[..., Any]:
    """Many consecutive steps as one call: run(state, images, labels, order, key, count) -> (state, losses stacked).

    The step takes the same arguments but the count, see `on_resident`. On an accelerator `lax.scan` saves a dispatch a
    step. On a CPU a scan over convolutions is several times slower than a Python loop over the compiled step (jax issue
    12868), so the loop is chosen by backend; both give the same numbers. The state's buffers are donated. Of a
    `jax.tree_util.Partial` the bound arrays are given to the compiled program; those that a function closes over would
    be constants in it. With several devices each batch is spread over them. Of a batch size that is named `OutOfMemory`
    is raised where the device's memory runs out.
    """
    step = step if isinstance(step, Partial) else Partial(step)
    one_step, scan = _programs(step.func)

    def loop(step, state, images, labels, order, key, count):
        losses = []
        for _ in range(count):
            state, loss = one_step(step, state, images, labels, order, key)
            losses.append(loss)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *losses)

    chosen: Callable[..., Any] = loop if on_cpu() else scan
    unchecked = [batch_size]

    def run(state, images, labels, order, key, count):
        with over_devices():
            arguments = on_all_devices((step, state, images, labels, order, key))

            def program():
                return scan.lower(*_shapes(arguments), count=count).compile()

            if unchecked:
                check_fits(unchecked.pop(), program)
            with undivided_batches(batch_size, program):
                return jax.block_until_ready(chosen(*arguments, count=count))

    return run


@kept
def _programs(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """One step compiled, and a scan over `count` of them; both take a `Partial` of the function, state and data."""

    @functools.partial(jax.jit, donate_argnums=1, compiler_options=compiler_options())
    def one_step(step, *arguments):
        return replicated(step(*arguments))

    @functools.partial(jax.jit, static_argnames="count", donate_argnums=1)
    def scan(*arguments, count):
        return replicated(scanned(*arguments, count=count))

    return one_step, scan


def scanned(
    step: Callable[..., Any], state: Any, images: Any, labels: Any, order: Any, key: jax.Array, *, count: int
) -> tuple[Any, Any]:
    """`count` steps as one traced loop over batches that are drawn on the device: (state, losses stacked)."""
    return jax.lax.scan(lambda state, _: step(state, images, labels, order, key), state, length=count)


def _shapes(tree: Any) -> Any:
    """What a program is compiled for; of arrays that were donated no more is left."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def stream_steps(
    step: Callable[..., Any],
    batch_size: int,
    *,
    before: Callable[[Any, np.ndarray], Any] = lambda state, index: state,
    after: Callable[[Any, np.ndarray], None] = lambda state, index: None,
    in_batch: bool = False,
) -> Callable[..., Any]:
    """`run_steps` for images that are not on the device: a batch of them is read when its turn has come.

    Args:
        step: (state, batch, key) -> (state, loss).
        batch_size: images a step, at most as many as there are.
        before: before(state, index [B] of the batch's images) -> the state to step from.
        after: after(state, index), once the step is begun: what it reads of the state at once, it waits for.
        in_batch: whether the index that a batch tells of an image is its place in the batch, as a state wants it that
            holds something for each image of the batch alone; otherwise it is that in the data set.
    """
    step = step if isinstance(step, Partial) else Partial(step)
    step = Partial(_on_batches(step.func), *step.args)
    one_step, _ = _programs(step.func)
    unchecked = [batch_size]

    def run(state, images, labels, order, key, count):
        order, labels, losses, arguments = np.asarray(order), np.asarray(labels), [], ()

        def program():
            return one_step.lower(*_shapes(arguments)).compile()

        # All at once: waiting for each step would leave the devices idle while the next batch is read.
        with over_devices(), undivided_batches(batch_size, program):
            for entries in order[: count * batch_size].reshape(count, -1):
                index = np.maximum(entries, ~entries)
                ascending = np.sort(index)
                x = images[ascending][np.searchsorted(ascending, index)]
                x = np.where((entries < 0)[:, None, None, None], x[:, :, ::-1], x)
                places = np.arange(len(index), dtype=np.int32) if in_batch else index.astype(np.int32)
                batch = Batch(x, labels[index], places)
                arguments = on_all_devices((step, before(state, index), batch, key))
                if unchecked:
                    check_fits(unchecked.pop(), program)
                state, loss = one_step(*arguments)
                after(state, index)
                losses.append(loss)
            return jax.block_until_ready((state, jax.tree.map(lambda *values: jnp.stack(values), *losses)))

    return run


@kept
def _on_batches(function: Callable[..., Any]) -> Callable[..., Any]:
    def step(*arguments):
        *bound, state, batch, key = arguments
        return function(*bound, state, spread(batch), key)

    return step


def check_finite(losses: dict[str, jax.Array], epoch: int, *, advice: str = "") -> None:
    """Refuse an epoch in which a loss was not finite.

    Args:
        losses: of each step of the epoch, float [count], by name.
        epoch: the epoch's number, from 1.
        advice: what the user can do, for the end of the message.

    Raises:
        UserError: it names the loss that was the first, its value and the step.
    """
    first = {name: np.flatnonzero(~np.isfinite(np.asarray(values))) for name, values in losses.items()}
    bad = {name: int(steps[0]) for name, steps in first.items() if steps.size}
    if bad:
        name = min(bad, key=lambda name: bad[name])
        raise UserError(f"{name} was {float(losses[name][bad[name]])} in step {bad[name] + 1} of epoch {epoch}{advice}")


def epoch_order(key: jax.Array, epoch: int, n: int) -> jax.Array:
    """The order of the n training images in an epoch, int32 [n]; resuming needs no more than the epoch's number."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n)


def training_order(key: jax.Array, epoch: int, n: int, recipe: Recipe) -> jax.Array:
    """`epoch_order` for a step of the recipe: where that mirrors, ~i stands for image i mirrored."""
    order = epoch_order(key, epoch, n)
    return alternate(key, epoch, order) if recipe.mirror else order


def fit(
    step: Callable[..., Any],
    state: TrainState,
    images: jax.Array | Images,
    labels: jax.Array,
    recipe: Recipe,
    key: jax.Array,
    *,
    after_epoch: Callable[[int, TrainState, float], None] = lambda epoch, state, loss: None,
) -> TrainState:
    """Train from the state's step to the end of the recipe, epoch by epoch.

    Args:
        step: from `make_train_step`.
        state: a state between epochs: fresh, or restored from a checkpoint.
        images: uint8 or float32 [N, H, W, C], resident on the device; a stream is read batch by batch.
        labels: int32 [N] or soft float32 [N, K].
        recipe: for its epochs, batch size and mirroring.
        key: PRNG key of order and augmentation.
        after_epoch: called with the number of epochs done, the state and the epoch's mean loss. The state's buffers are
            reused by the next step: copy what has to stay.

    Raises:
        UserError: the loss was not finite in a step; `after_epoch` is not called for its epoch.
        OutOfMemory: the device's memory does not hold a step.
    """
    count = recipe.steps_per_epoch(len(images))
    order_key, step_key = jax.random.split(key)
    state = jax.tree.map(jnp.array, state)  # the caller's buffers stay his: the loop donates its own
    if isinstance(images, ImageStream):
        run = stream_steps(step, recipe.batch_size)
    else:
        size = min(recipe.batch_size, len(images))
        run, (images, labels) = run_steps(on_resident(step, size), size), on_all_devices((images, labels))
    for epoch in range(int(state.step) // count, recipe.epochs):
        order = training_order(order_key, epoch, len(images), recipe)
        state, losses = run(state, images, labels, order, step_key, count)
        check_finite({"the training loss": losses}, epoch + 1)
        after_epoch(epoch + 1, state, float(losses.mean()))
    return state


@kept
def _predictor(module: Any, mirrored: bool) -> Callable[..., jax.Array]:
    def predict(variables, x):
        x = spread(decode(x))
        logits = module.apply(variables, x, train=False)
        if mirrored:
            logits = logits + module.apply(variables, x[:, :, ::-1], train=False)
        return logits.argmax(axis=-1)

    return compiled(predict)


def accuracy(
    module: Any, variables: Any, images: Any, labels: Any, *, batch_size: int = 500, mirrored: bool = False
) -> float:
    """Fraction of images that a network gives their label, in eval mode.

    Args:
        module: network with `apply(variables, x, train=False)`.
        variables: its weights and statistics.
        images: uint8 or float in [0, 1], [N, H, W, C]; for an authorized network what its view shows, see `seen`.
        labels: int [N].
        batch_size: images at a time, at most.
        mirrored: whether it answers by the mean of its logits for the image and for its mirror image.

    Returns:
        float in [0, 1].
    """
    predict, variables = _predictor(module, mirrored), on_all_devices(variables)

    def correct(part: slice, size: int) -> int:
        x, y = images[part], np.asarray(labels[part])
        if len(x) < size and part.start:  # one compiled shape: fill the last batch up, count its own images only
            x = jnp.concatenate([x, jnp.zeros((size - len(x), *x.shape[1:]), x.dtype)])
        with over_devices():
            return int((np.asarray(predict(variables, on_all_devices(x)))[: len(y)] == y).sum())

    pieces = in_pieces(correct, len(images), at_a_time(images.shape[1:], most=batch_size))
    return sum(piece for _, piece in pieces) / len(images)


@kept
def _forward(module: Any, method: str) -> Callable[..., jax.Array]:
    def forward(variables, x):
        return module.apply(variables, decode(x), train=False, method=method)

    return compiled(forward)


def outputs(module: Any, variables: Any, images: np.ndarray, method: str = "__call__") -> np.ndarray:
    """What a network makes of images [N, H, W, C] (uint8 or float in [0, 1]) in eval mode, float32 [N, K or D].

    The method of the network is "__call__" for its logits, "features" for its penultimate features.
    """
    forward, size = _forward(module, method), at_a_time(images.shape[1:], most=500)
    pieces = in_pieces(lambda part, _: np.asarray(forward(variables, jnp.asarray(images[part]))), len(images), size)
    return np.concatenate([piece for _, piece in pieces])
