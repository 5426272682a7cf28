"""The method on its page: its update under every transformation of JAX, its losses' derivatives, terms of one's own."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import ugejax.terms as terms_module
from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.protection import Protection, _surrogate_optimizer
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.compiler import compiled, kept, traced_for
from ugejax.constraints.budget import amplitude
from ugejax.networks import build
from ugejax.perturbations import parametrisation
from ugejax.perturbations.parametrisation import (
    PARAMETRISATIONS,
    NoiseState,
    Parametrisation,
    initial_noise,
    of_classes,
)
from ugejax.perturbations.start import class_stripes
from ugejax.terms import Term, gradient_matching, terms_of, undistil
from ugejax.training import Batch, Recipe, initial_state
from ugejax.training.loop import _programs, on_resident
from ugejax.uge import Config, Method, _update, make_update, protect, trajectory
from ugejax.views import IdentityView, dither_view, linear_view

SHAPE, CLASSES = (8, 8, 1), 4
WRONG = jnp.array([1, 2, 3, 0])
KEY = jax.random.key(0)
ALL = Method(batch_size=12, transforms=("crop-flip",), undistillation=1.0, snapshots=2, surrogates=())


def test_the_sum_over_a_class_is_a_product_on_an_accelerator_and_the_same(monkeypatch):
    grad, y = jax.random.normal(KEY, (7, *SHAPE)), jnp.array([0, 3, 0, 1, 3, 3, 0])
    expected = np.stack([np.asarray(grad)[y == k].sum(axis=0) for k in range(CLASSES)])
    for on_cpu, scatters in ((True, True), (False, False)):
        monkeypatch.setattr(parametrisation, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        assert ("scatter" in str(jax.make_jaxpr(lambda g, y: of_classes(g, y, CLASSES))(grad, y))) == scatters
        np.testing.assert_allclose(of_classes(grad, y, CLASSES), expected, atol=1e-6)


class Plain(nn.Module):
    """A convolution before a linear layer, smooth everywhere."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        z = jnp.tanh(nn.Conv(3, (3, 3), strides=2, param_dtype=x.dtype)(x))
        return nn.Dense(self.num_classes, param_dtype=x.dtype, name="head")(z.reshape(x.shape[0], -1))


def toy(n: int = 12) -> Batch:
    images = np.random.default_rng(0).integers(40, 216, (n, *SHAPE), np.uint8)
    return Batch(jnp.asarray(images), jnp.arange(n) % CLASSES, jnp.arange(n))


@functools.cache
def initialiser(module: nn.Module):
    return jax.jit(module.init)


def variables_of(module: nn.Module, seed: int = 0, dtype: type = jnp.float32) -> dict:
    return initialiser(module)(jax.random.key(seed), jnp.zeros((1, *SHAPE), dtype))


def network_of(view=None, trains: str = "all") -> tuple[AuthorizedNetwork, dict]:
    """An authorized network, and two snapshots of it."""
    module = Plain()
    both = [variables_of(module, seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    return AuthorizedNetwork(view or IdentityView(), module, both[0], trains), stacked


def update_of(method: Method = ALL, view=None, trains: str = "all", **options):
    network, snapshots = network_of(view, trains)
    return make_update(method, network, snapshots, [Plain()], [optax.sgd(0.1)], WRONG, **options)


def state_of(method: Method = ALL, seed: int = 0) -> NoiseState:
    start = 0.02 * jax.random.normal(jax.random.key(seed), (CLASSES, *SHAPE))
    return initial_noise(jax.random.key(seed), method, start, toy().x, toy().y, [Plain()], [optax.sgd(0.1)])


def stacked(states: list) -> NoiseState:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("class-wise", {}), ("generator", {"gradient_matching": 0.0, "undistillation": 0.0, "transforms": ()})],
)
def test_mapped_over_keys_the_update_is_that_of_each_key(kind, changes):
    """All of it with class-wise noise; with a generator the way from the gradient to its weights."""
    method = dataclasses.replace(ALL, **{"parametrisation": kind, "transforms": ("crop-flip", "mixup")} | changes)
    update, keys = update_of(method), jax.random.split(KEY, 3)
    states = [state_of(method, seed) for seed in range(3)]
    single = compiled(update)
    alone = [single(state, toy(), key) for state, key in zip(states, keys, strict=True)]
    at_once = jax.jit(jax.vmap(update, in_axes=(0, None, 0)))(stacked(states), toy(), keys)
    at_once = jax.tree.map(np.asarray, at_once)
    for place, expected in enumerate(alone):
        mine = jax.tree.map(lambda leaf, place=place: leaf[place], at_once)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), mine, expected)


@dataclasses.dataclass(frozen=True)
class Watched:
    """A parametrisation that keeps the noise, and in its place returns the derivative that it is handed."""

    inner: Parametrisation

    def start(self, key, texture, labels, secret=b""):
        return self.inner.start(key, texture, labels, secret)

    def wanted(self, noise, batch):
        return self.inner.wanted(noise, batch)

    def moved(self, noise, batch, delta, grad, project, axis_name=None):
        _, pull_back = jax.vjp(lambda noise: self.inner.wanted(noise, batch), noise)
        return pull_back(grad)[0]


LOSSES = ("gradient_matching", "undistillation", "feature_distance")


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        *(("class-wise", {name: 1.0}) for name in LOSSES),
        ("sample-wise", dict(zip(LOSSES, (1.0, 2.0, 0.5), strict=True))),
        ("generator", dict(zip(LOSSES, (1.0, 2.0, 0.5), strict=True))),
    ],  # codes pass a sign straight through
)
def test_the_derivative_of_each_loss_and_of_their_sum_is_that_of_finite_differences(kind, weights, monkeypatch):
    """Along a random direction of what the perturbation is made from, in double precision, where no bound is met."""
    with jax.enable_x64(True):
        batch = Batch(toy().x.astype(jnp.float64) / 255, toy().y, toy().index)
        method = dataclasses.replace(
            ALL, eps=0.15, parametrisation=kind, transforms=(), feature_loss="error-max",
            **dict.fromkeys(LOSSES, 0.0) | weights,
        )  # fmt: skip
        how = PARAMETRISATIONS[kind](dataclasses.replace(method, step_size=0.07), 0.15, SHAPE[-1])
        monkeypatch.setitem(PARAMETRISATIONS, kind, lambda *_: Watched(how))
        texture = 0.02 * jax.random.normal(KEY, (CLASSES, *SHAPE), jnp.float64)
        noise = how.start(jax.random.key(3), texture, batch.y)
        noise = jax.tree.map(lambda leaf: np.asarray(leaf, None if leaf.dtype == jnp.int32 else np.float64), noise)
        variables = variables_of(Plain(), dtype=jnp.float64)
        network = AuthorizedNetwork(IdentityView(), Plain(), variables, "all")
        surrogate = initial_state(variables_of(Plain(), 5, jnp.float64), optax.sgd(0.1))
        one = jax.tree.map(lambda leaf: leaf[None], variables)
        update = compiled(make_update(method, network, one, [Plain()], [optax.sgd(0.1)], WRONG))

        def value(noise):
            after, losses = update(NoiseState(jnp.zeros((), jnp.int32), noise, (surrogate,)), batch, KEY)
            signed = {name: -weight if name == "undistillation" else weight for name, weight in weights.items()}
            return sum(weight * losses[name] for name, weight in signed.items()), after.noise

        moving = noise if kind != "generator" else noise.params
        with_moving = (lambda moved: moved) if kind != "generator" else (lambda moved: noise.replace(params=moved))
        rng = np.random.default_rng(9)
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), moving)
        step = 1e-5
        (ahead, _), (behind, _) = (
            value(with_moving(jax.tree.map(lambda leaf, d, s=s: leaf + s * step * d, moving, direction)))
            for s in (1, -1)
        )
        derivative = value(noise)[1]
        derivative = derivative.params if kind == "generator" else derivative
        expected = sum(np.vdot(d, g) for d, g in zip(*map(jax.tree.leaves, (direction, derivative)), strict=True))
        assert float((ahead - behind) / (2 * step)) == pytest.approx(float(expected), rel=1e-5)
        assert abs(float(expected)) > 1e-6


def test_a_term_of_weight_nought_is_not_computed_and_the_others_are_once():
    counted = []

    def counting(name):
        def loss(context):
            counted.append(name)
            return lambda x_u: jnp.square(x_u - context.x).mean(axis=(1, 2, 3))

        return loss

    terms = [Term("on", 0.5, counting("on")), Term("off", 0.0, counting("off"))]
    _, losses = jax.eval_shape(update_of(terms=terms), state_of(), toy(), KEY)
    assert counted == ["on"] and set(losses) == {"on"}


@pytest.mark.parametrize("off", [term.name for term in terms_of(ALL)])
def test_each_loss_of_the_method_can_be_switched_off_alone(off, monkeypatch):
    """Its functions in `ugejax.losses` are then not even called while the update is traced."""
    method = dataclasses.replace(ALL, **{off: 0.0})
    functions = {
        "gradient_matching": "gradient_matching_to", "undistillation": "undistillation",
        "feature_distance": "error_minimising",
    }  # fmt: skip
    called = []
    for name, function in functions.items():
        original = getattr(terms_module, function)
        monkeypatch.setattr(
            terms_module, function,
            lambda *a, name=name, original=original, **k: called.append(name) or original(*a, **k),
        )  # fmt: skip
    monkeypatch.setattr("ugejax.uge._update", kept(_update.__wrapped__))  # none that was built before
    _, losses = jax.eval_shape(update_of(method), state_of(method), toy(), KEY)
    assert set(losses) == set(functions) - {off}
    # The gradients that are matched are those of a cross-entropy too.
    assert off not in called or off == "feature_distance"


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(ValueError, match="gradient_matching"):
        update_of(terms=[gradient_matching(), gradient_matching(distance="cosine")])


def roughness(context):
    """Mean squared difference of neighbouring rows of the perturbation."""
    return lambda x_u: jnp.square(jnp.diff(x_u - context.x, axis=1)).mean(axis=(1, 2, 3))


def test_a_term_of_ones_own_is_descended_beside_the_others():
    method = dataclasses.replace(ALL, transforms=())
    own = [*terms_of(method), Term("roughness", 3.0, roughness, authorized=False, surrogates=False)]
    alone = compiled(update_of(method, terms=own[-1:]))
    state, first = state_of(method), None
    surrogates = jax.tree.map(np.asarray, state.surrogates)
    for _ in range(5):
        state, losses = alone(state, toy(), KEY)
        first = first or float(losses["roughness"])
    assert float(losses["roughness"]) < 0.8 * first
    jax.tree.map(np.testing.assert_array_equal, state.surrogates, surrogates)  # no term looks at them
    _, together = compiled(update_of(method, terms=own))(state_of(method), toy(), KEY)
    assert set(together) == {"feature_distance", "undistillation", "gradient_matching", "roughness"}


@pytest.mark.parametrize(
    "view",
    [dither_view(b"secret 0", SHAPE, salt=bytes(16), step=24), linear_view(b"secret 0", SHAPE)],
    ids=["dither", "linear"],
)
def test_where_the_network_is_blind_matching_and_undistillation_are_nought_and_so_is_their_gradient(view):
    """The trajectory is handed to the update all the same, which `matched` would spare."""
    method = dataclasses.replace(ALL, transforms=(), feature_distance=0.0, steps_per_batch=2)
    seen = []

    def gradient_of(term):
        def loss(context):
            value = term.loss(context)
            x_u = context.x + 0.0
            seen.append(jax.grad(lambda x_u: value(x_u).mean())(x_u))
            return value

        return dataclasses.replace(term, loss=loss)

    terms = [gradient_of(term) for term in (gradient_matching(), undistil())]

    @jax.jit
    def losses_and_gradients(update, *arguments):
        _, losses = update(*arguments)
        return losses, seen

    update = update_of(method, view=view, terms=terms)
    losses, gradients = losses_and_gradients(update, state_of(method), toy(), KEY)
    exact = view.patch is None
    for value in losses.values():
        assert float(value) == 0 if exact else abs(float(value)) < 1e-9
    assert len(gradients) == 2
    for gradient in gradients:
        inside = gradient if exact else view.project(gradient, toy().x / 255)
        assert float(jnp.abs(inside).max()) == 0 if exact else float(jnp.abs(inside).max()) < 1e-7


@pytest.mark.parametrize("trains", ["all", "head"])
def test_gradient_matching_falls_and_brings_the_partners_gradients_nearer(trains):
    """For an ordinary network and one with a frozen stem: beside error-minimising noise, with the term and without."""
    method = dataclasses.replace(
        ALL, transforms=(), parametrisation="sample-wise", undistillation=0.0, gradient_matching=10.0, step_size=0.02
    )
    without = dataclasses.replace(method, gradient_matching=0.0)
    watch = Term("distance", 1e-9, gradient_matching().loss, surrogates=False)
    ends = []
    for chosen in (method, without):
        update = compiled(update_of(chosen, trains=trains, terms=[*terms_of(chosen), watch]))
        state, course = state_of(chosen), []
        for _ in range(30):
            state, losses = update(state, toy(), KEY)
            course.append(float(losses["distance"]))
        ends.append(np.mean(course[-5:]))
        if chosen is method:
            assert ends[0] < 0.5 * np.mean(course[:5])
    assert ends[0] < 0.5 * ends[1]


@pytest.mark.parametrize(
    ("view", "changes"),
    [
        (IdentityView(), {}),
        (dither_view(b"secret 0", SHAPE, salt=bytes(16), step=24), {"epochs": 0}),
        (IdentityView(), {"parametrisation": "generator", "norm": "l2", "eps": 0.5}),
    ],
)
def test_the_page_gives_the_bytes_of_the_protection_with_files(view, changes, tmp_path):
    """The same keys, settings and images: `Protection` wraps checkpoints, streams and devices around it."""
    method = dataclasses.replace(ALL, **{"epochs": 2, "period": 4, "surrogates": ("mlp",)} | changes)
    recipe, batch = Recipe(epochs=2, batch_size=12), toy(24)
    network = AuthorizedNetwork(view, Plain(), variables_of(Plain(), 1), "all")
    public, training, rounding = jax.random.split(KEY, 3)
    job = Protection(method, network, recipe, CLASSES, public, training, b"textures", rounding)
    images, labels = np.asarray(batch.x), np.asarray(batch.y, np.int32)
    start = class_stripes(b"textures", CLASSES, SHAPE, amplitude=amplitude(method.eps, method.norm, SHAPE), period=4)
    config = Config(method, (network,), recipe, start, surrogates=((build("mlp", CLASSES), _surrogate_optimizer()),))
    released, state = protect(KEY, batch.x, batch.y, config)
    np.testing.assert_array_equal(released, job.run(images, labels, tmp_path))
    assert int(state.step) == 2 * method.epochs
    assert (np.asarray(released) != images).any()


def test_the_trajectory_in_memory_is_that_on_disk(tmp_path):
    recipe, batch = Recipe(epochs=3, batch_size=6), toy()
    network = AuthorizedNetwork(IdentityView(), Plain(), variables_of(Plain()), "all")
    in_memory, on_disk = (
        trajectory(network, recipe, batch.x, batch.y, KEY, snapshots=3, **options)
        for options in ({}, {"checkpoints": StepCheckpoints(tmp_path, keep=None)})
    )
    jax.tree.map(np.testing.assert_array_equal, in_memory, on_disk)
    assert jax.tree.leaves(in_memory)[0].shape[0] == 3


def test_no_secret_is_in_the_lowered_program_or_in_what_is_kept_of_it_on_disk(tmp_path):
    """The words of the view's secret, and the trajectory's weights: arguments of the program."""
    view = dither_view(b"secret 0", SHAPE, salt=bytes(16), step=24)
    network, snapshots = network_of(view)
    method = dataclasses.replace(ALL, transforms=())
    step = on_resident(make_update(method, network, snapshots, [Plain()], [optax.sgd(0.1)], WRONG), 12)
    arguments = (step, state_of(), toy().x, toy().y, jnp.arange(12), KEY)
    one_step, _ = _programs(step.func)
    text = one_step.lower(*arguments).as_text()
    words = [int(word) for word in np.asarray(view.secret)]
    assert not any(str(word) in text or f"{word:x}" in text.lower() for word in words)
    # As constants they would be there: this is what a closure does, and that the search finds them.
    closed = jax.jit(lambda *rest: step(*rest)).lower(*arguments[1:]).as_text()
    assert all(str(word) in closed or f"{word:x}" in closed.lower() for word in words)
    settings = {
        "jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }  # fmt: skip
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        reset_cache()
        with traced_for("cpu"):  # which nothing was compiled for so far
            one_step.lower(*arguments).compile()
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept
    weights = np.asarray(jax.tree.leaves(snapshots)[-1]).ravel()
    for secret in [*np.asarray(view.secret), *weights[:4]]:
        assert np.asarray(secret).tobytes() not in kept


def test_an_update_is_traced_once(monkeypatch):
    counted = chex.assert_max_traces(lambda context: roughness(context), n=1)
    update = compiled(update_of(terms=[Term("roughness", 1.0, counted)]))
    state = state_of()
    for _ in range(3):
        state, _ = update(state, toy(), KEY)
    assert int(state.step) == 3
