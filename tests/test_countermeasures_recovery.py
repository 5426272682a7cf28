"""Training within a ball around the weights that it begins with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evaluation_examples import make_trial, toy

from ugejax.countermeasures import COUNTERMEASURES
from ugejax.countermeasures.recovery import RADIUS, near
from ugejax.evaluation.trial import Phase
from ugejax.training import Recipe

PARAMS = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}  # norm 5


def descend(optimizer: optax.GradientTransformation, steps: int) -> dict:
    """Weights after some steps along the same gradient."""
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update({"a": jnp.array([0.0, -1.0]), "b": jnp.zeros((1, 1))}, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_weights_go_as_far_as_the_ball_and_no_farther():
    np.testing.assert_allclose(descend(near(optax.sgd(0.1), radius=0.1), 3)["a"], [3, 0.3], atol=1e-6)
    far = descend(near(optax.sgd(0.1), radius=0.1), 9)
    np.testing.assert_allclose(far["a"], [3, 0.5], atol=1e-6)
    np.testing.assert_array_equal(far["b"], PARAMS["b"])


def test_within_the_ball_it_is_the_optimizer():
    free, held = (descend(optimizer, 5) for optimizer in (optax.adamw(0.01), near(optax.adamw(0.01), radius=10.0)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), free, held)


def test_a_phase_of_a_trial_stays_near_what_came_before():
    data, recipe = toy(12, 0), Recipe(epochs=4, batch_size=6, learning_rate=0.3)
    _, before = make_trial(recipe=recipe).run()
    trial = make_trial(recipe=recipe, then=(Phase(data.images, (data.labels + 1) % 3, "near"),))
    score, after = trial.run()
    assert len(score.by_epoch) == trial.epochs == 8
    moved = optax.tree.norm(optax.tree.sub(after["params"], before["params"]))
    assert float(moved) == pytest.approx(RADIUS * float(optax.tree.norm(before["params"])), rel=1e-3)
    assert COUNTERMEASURES["recovery-1"].fine_tunes == "near"
