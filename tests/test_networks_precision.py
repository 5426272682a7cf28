"""Networks whose bodies compute in bfloat16: what remains float32, how near they come, and that they learn."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evaluation_examples import make_trial, toy

from ugejax.authorized.network import AuthorizedNetwork
from ugejax.compiler import training_dtype
from ugejax.networks import build
from ugejax.networks.classifier import Classifier
from ugejax.networks.densenet import DenseNetBody
from ugejax.networks.mixer import ConvMixerBody, MLPMixerBody
from ugejax.networks.preactivation import WideResNetBody
from ugejax.networks.resnet import ResNetBody
from ugejax.networks.small import ConvolutionalBody, PerceptronBody, ResidualBody
from ugejax.networks.speedrun import SpeedrunBody
from ugejax.networks.transformer import CaiTBody, ViTBody
from ugejax.networks.vgg import VGGBody
from ugejax.perturbations.parametrisation import NoiseState
from ugejax.training import Batch, Recipe, accuracy, fit, initial_state, make_train_step
from ugejax.uge import Method, make_update
from ugejax.views import IdentityView

KEY, SHAPE = jax.random.key(0), (8, 8, 3)
HALF = jnp.dtype(jnp.bfloat16)
BODIES = {
    "projection": ResNetBody(stages=((4, 1), (8, 1)), shortcut="projection"),
    "option-a": ResNetBody(stages=((4, 1), (8, 1)), shortcut="pad"),
    "bottleneck": ResNetBody(stages=((4, 1),), shortcut="projection", bottleneck=True),
    "wide": WideResNetBody(depth=10, widening=1),
    "vgg": VGGBody(stages=((4, 1), (8, 1))),
    "densenet": DenseNetBody(blocks=(1, 1), growth=4),
    "convmixer": ConvMixerBody(width=8, depth=1, kernel_size=3, patch=2),
    "mlp-mixer": MLPMixerBody(width=8, depth=1, patch=4),
    "vit": ViTBody(width=8, depth=1, heads=1, hidden=8),
    "cait": CaiTBody(width=8, depth=1, class_depth=1, heads=2, hidden=8),
    "speedrun": SpeedrunBody((4, 4, 4)),
    "cnn": ConvolutionalBody(),
    "cnn-nonorm": ConvolutionalBody(norm=False),
    "res-tiny": ResidualBody(),
    "mlp": PerceptronBody(),
}
# Scores of attention whose heads are mixed, before and after the softmax, in the layer of each kind.
MIXED = {"cait": 4}


def equations(jaxpr):
    """Every operation of a program, those of its parts among them."""
    for equation in jaxpr.eqns:
        yield equation
        for part in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(part, "eqns"):
                yield from equations(part)
            elif hasattr(part, "jaxpr"):
                yield from equations(part.jaxpr)


def products_and_results(function, *arguments) -> tuple[list[tuple], Any]:
    """The dtypes of what is multiplied, for each matrix product and convolution, and the shapes of what comes out."""
    traced, results = jax.make_jaxpr(function, return_shape=True)(*arguments)
    found = [one for one in equations(traced.jaxpr) if one.primitive.name in ("dot_general", "conv_general_dilated")]
    return [tuple(operand.aval.dtype for operand in one.invars) for one in found], results


def products(function, *arguments) -> list[tuple]:
    """The dtypes alone."""
    return products_and_results(function, *arguments)[0]


def applied(network: Classifier):
    return lambda variables, x: network.apply(
        variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
    )  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies_multiply_in_it_and_all_that_stays_is_float32(name):
    network, x = Classifier(BODIES[name], 3, dtype=HALF), jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    variables = jax.eval_shape(network.init, KEY, x)
    assert variables == jax.eval_shape(Classifier(BODIES[name], 3).init, KEY, x)
    used, (logits, updated) = products_and_results(applied(network), variables, x)
    assert {dtype for operands in used for dtype in operands} == {HALF, jnp.dtype(jnp.float32)}
    assert used[-1] == (jnp.float32, jnp.float32)  # the head
    assert sum(operands != (HALF, HALF) for operands in used) == 1 + MIXED.get(name, 0)
    features = jax.eval_shape(functools.partial(network.apply, method="features"), variables, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, logits, features, updated)))


# Where a network pools by a maximum, rounding makes another value the largest here and there.
@pytest.mark.parametrize(("name", "cosine"), [("projection", 0.99), ("speedrun", 0.9), ("cnn", 0.99)])
def test_logits_and_gradients_are_near_those_of_float32(name, cosine):
    whole, half = (Classifier(BODIES[name], 3, dtype=dtype) for dtype in (None, HALF))
    x, y = jax.random.uniform(jax.random.key(1), (16, *SHAPE)), jax.nn.one_hot(jnp.arange(16) % 3, 3)
    variables = jax.jit(whole.init)(KEY, x)

    @functools.partial(jax.jit, static_argnums=0)
    def of(network, variables):
        def loss(params):
            logits, _ = applied(network)({**variables, "params": params}, x)
            return optax.softmax_cross_entropy(logits, y).mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(variables["params"])
        return logits, gradient

    (logits, gradient), (near, near_gradient) = of(whole, variables), of(half, variables)
    assert 0 < np.abs(logits - near).max() < 0.05 * np.abs(logits).max()
    flat, near_flat = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)]) for g in (gradient, near_gradient)
    )
    assert flat @ near_flat > cosine * jnp.linalg.norm(flat) * jnp.linalg.norm(near_flat)


def test_they_learn_what_those_of_float32_learn():
    data, recipe = toy(60, 0), Recipe(epochs=6, batch_size=10)
    module, optimizer = Classifier(BODIES["cnn"], 3), recipe.build_optimizer(60)
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    found = {}
    for dtype in (None, HALF):
        step = make_train_step(module, optimizer, recipe, dtype=dtype)
        state = initial_state(jax.jit(module.init)(KEY, jnp.zeros((1, *images.shape[1:]))), optimizer)
        trained = fit(step, state, images, labels, recipe, KEY)
        assert all(leaf.dtype != HALF for leaf in jax.tree.leaves(trained))
        found[dtype] = accuracy(module, trained.variables, images, labels)
    assert min(found.values()) > 0.9


def test_it_is_for_trainings_for_a_score_on_an_accelerator_alone(monkeypatch):
    assert training_dtype() is None
    module, shape = build("mlp", 3), (8, 8, 1)

    def used_in_trial() -> list[tuple]:
        optimizer, step = make_trial(module=module, recipe=Recipe(epochs=1, batch_size=5)).make_step()
        variables = jax.eval_shape(module.init, KEY, jnp.zeros((1, *shape)))
        state = jax.eval_shape(lambda variables: initial_state(variables, optimizer), variables)
        return products(step, state, Batch(jnp.zeros((5, *shape)), jnp.zeros(5, jnp.int32)), KEY)

    def used_in_update() -> list[tuple]:
        variables, optimizer = module.init(KEY, jnp.zeros((1, *shape))), optax.sgd(0.1)
        network = AuthorizedNetwork(IdentityView(), module, variables, "all")
        trajectory = jax.tree.map(lambda leaf: leaf[None], variables)
        update = make_update(Method(transforms=()), network, trajectory, [module], [optimizer], jnp.array([1, 2, 0]))
        state = NoiseState(jnp.zeros((), jnp.int32), jnp.zeros((3, *shape)), (initial_state(variables, optimizer),))
        return products(update, state, Batch(jnp.zeros((5, *shape)), jnp.zeros(5, jnp.int32), jnp.arange(5)), KEY)

    assert not any(HALF in operands for operands in used_in_trial())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert training_dtype() == HALF
    assert sum(HALF in operands for operands in used_in_trial()) == 5  # two layers, and their derivatives
    in_update = used_in_update()
    assert in_update and not any(HALF in operands for operands in in_update)
