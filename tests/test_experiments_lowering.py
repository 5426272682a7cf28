"""All compiled programs lower to GPU and TPU: a sample is exported here, the whole is in the committed table."""

import json
from pathlib import Path
from unittest import mock

from process_examples import begin

from experiments import lowering
from experiments.lowering import PLATFORMS, programs

ROOT = Path(__file__).parent.parent
# `jax.export` takes what `jax.jit` returns alone; the same in a `jax.jit` is a row of its own.
REFUSED = ("devices", "bulk work by pmap")


def assert_lowered(rows: list[dict]) -> None:
    """Every program does on every platform, without float64 and without the host."""
    for row in rows:
        title = (row["group"], row["name"])
        lowered = {row[platform] for platform in PLATFORMS}
        assert lowered == {"yes"} or (title == REFUSED and all("must be the result of `jit`" in why for why in lowered))
        assert row["float64"] == 0 and not any("callback" in call for call in row["custom_calls"]), title


def export_the_sample(folder: Path) -> int:
    with mock.patch("sys.argv", ["lowering", "--sample", "--out", str(folder)]):
        return lowering.main()


def test_a_sample_of_every_kind_of_program_is_exported_from_here(tmp_path):
    """In a process of its own, since what is traced for other platforms is not to be found by tests of this one."""
    process = begin(export_the_sample, tmp_path, said=tmp_path / "said")
    process.join(timeout=300)
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    rows = {(row["group"], row["name"]): row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert rows.keys() == {(program.group, program.name) for program in programs() if program.sample}
    assert {group for group, _ in rows} >= {"update", "release", "view", "train step", "epoch", "together", "transform"}
    assert_lowered([*rows.values()])
    # A step of cnn: five convolutions, their derivatives by kernel, and by maps but for the first. Traced as for a
    # processor some would be products.
    assert rows["train step", "cnn"]["convolutions"] == 5 + 5 + 4


def test_the_committed_table_is_of_these_programs_in_their_order():
    rows = json.loads((ROOT / "experiments" / "results" / "lowering.json").read_text())["rows"]
    found, asked = [(row["group"], row["name"]) for row in rows], list(programs())
    assert found == [title for one in asked if (title := (one.group, one.name)) in found]
    assert {(one.group, one.name) for one in asked if one.sample} <= set(found)
    assert_lowered(rows)
