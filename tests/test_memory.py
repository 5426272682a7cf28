"""A device whose memory runs out: told from other errors, said with what would fit, and worked around where wanted.

No device here is full: what raises for batches above a size stands for one.
"""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_examples import TINY, tree, write_toy

from ugejax import memory
from ugejax.app.cli import main
from ugejax.app.release import read_release
from ugejax.authorized import seen
from ugejax.batches import in_pieces
from ugejax.compiler import kept
from ugejax.memory import (
    Estimate,
    OutOfMemory,
    check_fits,
    estimate,
    estimated_beforehand,
    fitting,
    ran_out,
    undivided_batches,
)
from ugejax.parallel import in_bulk
from ugejax.training import TrainState, loop

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")


def test_what_the_runtime_itself_raises_is_told_from_the_rest():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(2**46, jnp.float32).block_until_ready()  # 256 TiB
    assert ran_out(caught.value)
    assert ran_out(FULL)
    assert not ran_out(jax.errors.JaxRuntimeError("INTERNAL: RESOURCE"))
    assert not ran_out(RuntimeError("RESOURCE_EXHAUSTED"))


def test_pieces_become_smaller_where_memory_runs_out_and_nothing_is_left_out():
    sizes = []

    def work(part, size):
        sizes.append(size)
        if size > 3:
            raise FULL
        return list(range(part.start, part.stop))

    done = list(in_pieces(work, 11, 13, start=2))
    assert [number for _, piece in done for number in piece] == list(range(2, 11))
    assert [part for part, _ in done] == [slice(2, 5), slice(5, 8), slice(8, 11)]
    assert sizes == [13, 6, 3, 3, 3]


def test_an_image_that_does_not_fit_and_another_error_are_raised():
    def raise_(error):
        raise error

    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        list(in_pieces(lambda *_: raise_(FULL), 5, 2))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(in_pieces(lambda *_: raise_(jax.errors.JaxRuntimeError("INTERNAL: no")), 5, 2))
    for size, error in ((None, FULL), (8, jax.errors.JaxRuntimeError("INTERNAL: no"))):
        with pytest.raises(jax.errors.JaxRuntimeError), undivided_batches(size, lambda: None):
            raise error


def test_what_the_network_sees_does_not_depend_on_the_pieces(monkeypatch):
    def small(view, x):
        if len(x) > 4:
            raise FULL
        return 2 * x

    monkeypatch.setattr("ugejax.authorized.network._apply", small)
    images = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2, 1)
    np.testing.assert_array_equal(seen(SimpleNamespace(hides=True), images), 2 * images)


@pytest.mark.parametrize(
    ("limit", "temporary", "fits"),
    [(None, 0, 32), (1000, 640, 32), (1000, 3200, 8), (1000, 64_000, 1), (500, 640, 1), (100, 1, 1), (10**9, 0, 32)],
)
def test_what_would_fit_follows_from_what_the_compiler_says(limit, temporary, fits, monkeypatch):
    """Of the limit 100 + 450 - 50 bytes are for arguments and results; the rest is for the temporary ones."""
    device = SimpleNamespace(memory_stats=lambda: limit and {"bytes_limit": limit})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    taken = SimpleNamespace(
        argument_size_in_bytes=100, output_size_in_bytes=450, alias_size_in_bytes=50, temp_size_in_bytes=temporary
    )
    assert fitting(64, lambda: SimpleNamespace(memory_analysis=lambda: taken)) == fits
    if limit is None:
        assert [fitting(size, lambda: pytest.fail("compiled")) for size in (3, 2, 1)] == [1, 1, None]


def test_a_step_that_cannot_be_compiled_again_is_halved(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda: {"bytes_limit": 9})])

    def full():
        raise FULL

    with pytest.raises(OutOfMemory) as caught, undivided_batches(10, full):
        raise FULL
    assert (caught.value.batch_size, caught.value.fitting) == (10, 5)
    assert "10 images" in str(caught.value)


def test_a_step_that_would_not_fit_is_refused_beforehand_where_that_is_asked_for(monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    taken = SimpleNamespace(
        argument_size_in_bytes=300, output_size_in_bytes=250, alias_size_in_bytes=50, temp_size_in_bytes=600
    )
    program = SimpleNamespace(memory_analysis=lambda: taken)
    assert estimate(program) == Estimate(500, 600) and estimate(program).total == 1100
    check_fits(12, lambda: pytest.fail("compiled, and nobody asked"))
    with estimated_beforehand():
        with pytest.raises(OutOfMemory) as caught:
            check_fits(12, lambda: program)
        assert (caught.value.batch_size, caught.value.fitting) == (12, 6)
        taken.temp_size_in_bytes = 500
        check_fits(12, lambda: program)
        check_fits(None, lambda: pytest.fail("compiled, and its batch size is not known"))
        device.memory_stats = lambda: None
        check_fits(12, lambda: pytest.fail("compiled, and the device does not tell its size"))


@pytest.mark.parametrize("streams", [False, True])
def test_of_every_step_it_can_be_asked_what_it_takes(streams, monkeypatch):
    asked = []

    @contextlib.contextmanager
    def whole(batch_size, program):
        yield
        asked.append((batch_size, program))

    monkeypatch.setattr(loop, "undivided_batches", whole)

    def step(state, batch, key):
        x = batch.x[:, 0, 0] + jax.random.normal(key, (4, 3))
        return state.replace(step=state.step + 1), (jnp.sort(x @ x.T, axis=0)[0] * batch.y[0]).sum()

    run = loop.stream_steps(step, 4) if streams else loop.run_steps(loop.on_resident(step, 4), 4)
    state = TrainState(jnp.zeros((), jnp.int32), {}, {}, {})
    state, losses = run(state, np.ones((8, 1, 1, 3)), np.ones(8), np.arange(8), jax.random.key(0), 2)
    assert (int(state.step), losses.shape) == (2, (2,))
    for batch_size, program in asked:
        assert batch_size == 4
        assert program().memory_analysis().argument_size_in_bytes > 0  # of a state that the step was given for good


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working folder, with toy.npz."""
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path / "toy.npz")
    return tmp_path


def hold(monkeypatch, size: int) -> None:
    """Let steps of more images than this find the device's memory full."""
    spread = loop.spread

    def held(batch):
        if len(jax.tree.leaves(batch)[0]) > size:
            raise FULL
        return spread(batch)

    monkeypatch.setattr(loop, "spread", held)
    # What was traced before asks no more; the tests after this one find it again.
    monkeypatch.setattr(loop, "_programs", kept(loop._programs.__wrapped__))


PROTECT = ["protect", "toy.npz", "--out", "R", "--key", "K", *TINY, "--seed", "0"]


def test_a_training_that_does_not_fit_is_one_line_or_goes_on_with_smaller_batches(place, monkeypatch, capsys):
    assert main(PROTECT) == 0
    # Of a device that tells its size no step is run that would not fit.
    with monkeypatch.context() as patch:
        patch.setattr(memory, "limit", lambda: 1000)
        patch.setattr(memory, "estimate", lambda program: Estimate(0, 300 * room.pop()))
        room = [1, 8, 8]  # of the second program, and twice of the first
        assert main(["train", "R", "--key", "K", "--auto-batch", "--out", "T1", "--epochs", "2"]) == 0
    assert capsys.readouterr().err.count("; again with --batch-size 8\n") == 1 and room == []
    assert json.loads(Path("T1/results.json").read_text())["batch_size"] == 8

    hold(monkeypatch, 8)
    capsys.readouterr()
    train = ["train", "R", "--key", "K", "--out", "T", "--epochs", "1"]
    assert main(train) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("ugejax train: the device's memory does not hold the 32 images of a batch")
    assert "give --batch-size 16, which should fit, or --auto-batch" in error
    assert main([*train, "--auto-batch"]) == 0
    said = capsys.readouterr().err
    assert "; again with --batch-size 16\n" in said and "; again with --batch-size 8\n" in said
    results = json.loads(Path("T/results.json").read_text())
    assert results["batch_size"] == 8
    # It is the training with that batch size, and found again as such.
    assert len([*Path("T").glob("checkpoints-*/1")]) == 1
    with monkeypatch.context() as patch:
        patch.setattr("ugejax.app.cli.train.fit", lambda step, state, *_, **__: state)
        assert main([*train, "--batch-size", "8"]) == 0
    assert json.loads(Path("T/results.json").read_text()) == results

    attack = ["attack", "R", "--out", "A", "--hackers", "mlp", "--epochs", "1"]
    assert main(attack) == 2
    assert "--batch-size 16, which" in capsys.readouterr().err
    assert main([*attack, "--auto-batch"]) == 0
    assert {row["batch_size"] for row in json.loads(Path("A/results.json").read_text())["rows"]} == {8}

    hold(monkeypatch, 0)
    assert main([*train, "--auto-batch", "--out", "T0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("choose a smaller network or smaller images")


def test_a_release_that_does_not_fit_is_made_in_smaller_pieces_and_the_same(place, monkeypatch):
    asked = []

    def small(function, shared, *, batch_size):
        asked.append(batch_size)
        if batch_size > 20:
            return lambda *_: (_ for _ in ()).throw(FULL)
        return in_bulk(function, shared, batch_size=batch_size)

    assert main(PROTECT) == 0
    monkeypatch.setattr("ugejax.app.protection.in_bulk", small)
    assert main([*PROTECT, "--out", "R2"]) == 0
    assert asked == [48, 24, 12]
    assert tree(Path("R2")) == tree(Path("R"))


def test_what_was_trained_before_is_kept_when_the_perturbation_does_not_fit(place, monkeypatch, capsys):
    matched = [*PROTECT, "--authorized", "plain", "--perturbation-epochs", "1", "--snapshots", "2"]
    hold(monkeypatch, 40)  # of the training's 32 images, and not of the 48 of the perturbation
    stages = []
    for more, code in (([], 2), (["--auto-batch"], 0)):
        assert main([*matched, *more, "--log-json", f"log{code}"]) == code
        stages.append({json.loads(line)["stage"] for line in Path(f"log{code}").read_text().splitlines()})
    assert stages == [{"trajectory"}, {"perturbation", "release"}]
    assert read_release(Path("R")).card["settings"]["batch_size"] == 24
    before = tree(place)
    capsys.readouterr()
    assert main([*matched, "--auto-batch"]) == 0
    assert main([*matched, "--batch-size", "24"]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2
    assert main(matched) == 2  # another release: one of whole batches
    assert "holds another release" in capsys.readouterr().err
    assert tree(place) == before

    hold(monkeypatch, 30)
    capsys.readouterr()
    assert main(["K2" if argument == "K" else argument for argument in [*matched, "--auto-batch", "--out", "R2"]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "trajectory: the device's memory does not hold the 32 images" in error


def test_memory_that_is_full_of_something_else_is_one_line(monkeypatch, capsys):
    def run(_):
        raise FULL

    monkeypatch.setattr("ugejax.app.cli.report.run", run)
    assert main(["report", "R"]) == 2
    assert capsys.readouterr().err == (
        "ugejax report: the device's memory is full; choose a smaller network or smaller images\n"
    )

    def broken(_):
        raise jax.errors.JaxRuntimeError("INTERNAL: no")

    monkeypatch.setattr("ugejax.app.cli.report.run", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        main(["report", "R"])
