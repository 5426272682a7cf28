"""Compiled steps ask nothing of the host: the committed counts say so, and the counting sees what does."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.counts import ROWS, WAYS, counted, moves
from experiments.memory import Row

ROOT = Path(__file__).parent.parent


def assert_asks_nothing(row: dict) -> None:
    assert (row["compiled"], row["compiled_later"], row["compiled_for_others"], row["transfers"]) == (1, 0, 1, 0)
    assert row["donated"] == row["state"] > 0


def test_the_committed_counts_are_of_these_steps():
    rows = json.loads((ROOT / "experiments" / "results" / "counts.json").read_text())["rows"]
    found = [(row["step"], row["network"], row["epoch"]) for row in rows]
    assert found == [(row.step, row.network, way) for row in ROWS for way in WAYS]
    for row in rows:
        assert_asks_nothing(row)


def test_a_step_is_counted():
    assert_asks_nothing(counted(Row("training", "mlp", 8, 20, 5), "cpu"))


def test_what_a_program_asks_of_the_host_is_found_however_deep_it_is():
    def asks(x):
        told = jax.pure_callback(lambda x: x, x, x)
        jax.debug.callback(lambda x: None, told)
        return jax.device_put(told, jax.devices()[0])

    def within(x):
        return jax.lax.cond(x > 0, jax.jit(asks), lambda x: x, x)

    looped = jax.make_jaxpr(lambda x: jax.lax.scan(lambda x, _: (within(x), None), x, length=3))(jnp.zeros(()))
    assert moves(looped.jaxpr) == 3
