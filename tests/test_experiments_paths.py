"""The walk along the newcomer's and the partner's path: what it runs and times, and where it stops."""

import pytest

from experiments.paths import SCORE, VIEW, Walk, check_report, partner_script, to_markdown


def test_a_command_is_timed_in_its_parts_without_what_is_there_already(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UGEJAX_CACHE", "ours")
    walk = Walk(tmp_path / "out")
    said = walk.run("newcomer", tmp_path, "sh -c 'echo [setup] making; sleep 0.3; echo [demo] run; env; pwd'", "of sh")
    assert f"XDG_CACHE_HOME={tmp_path}/out/cache\n" in said and "UGEJAX_CACHE" not in said
    assert said.endswith(f"{tmp_path}\n")
    (row,) = walk.rows
    assert 0.3 <= row["parts"]["making"] <= row["seconds"] and set(row["parts"]) == {"making", "run"}
    assert row["cpu_seconds"] < 0.3  # who sleeps takes none
    assert (tmp_path / "out" / "logs" / "01.txt").read_text().endswith(said)
    assert "newcomer$ sh -c" in capsys.readouterr().out and "of sh" not in row["command"]


def test_it_stops_at_a_command_that_fails(tmp_path):
    walk = Walk(tmp_path / "out")
    with pytest.raises(SystemExit, match="failed with 3:\nno space left"):
        walk.run("partner", tmp_path, "sh -c 'echo no space left >&2; exit 3'")
    assert (tmp_path / "out" / "logs" / "01.txt").is_file()


def test_the_partner_takes_his_page_as_it_stands():
    script = partner_script()
    assert script.count(VIEW) == 1  # which a stranger does without
    for needed in ("class Release", "from view import SecretView", "loss.backward()"):
        assert needed in script
    assert "load_dataset" not in script  # another section's
    compile(script + SCORE, "train.py", "exec")


def test_a_report_that_shows_nothing_is_refused(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<table></table><svg></svg><img>")
    check_report(page)
    page.write_text("<table></table><svg></svg>")
    with pytest.raises(SystemExit, match="nothing of the kind img"):
        check_report(page)


def test_the_table_has_each_command_and_the_sum_of_each_path():
    rows = [
        {"command": "make demo", "seconds": 80.25, "cpu_seconds": 100.0, "load": 1.04, "parts": {"making": 30.0}},
        {"command": "open", "seconds": 1.5, "cpu_seconds": 0.5, "load": 1, "parts": {}},
        {"command": "export ../view", "seconds": 2.0, "cpu_seconds": 1.0, "load": 1, "parts": {}},
    ]
    rows = [{"who": who, **row} for who, row in zip(("newcomer", "newcomer", "owner"), rows, strict=True)]
    assert to_markdown({"rows": rows}).splitlines()[2:] == [
        "| newcomer | `make demo` | 80.2 | 100.0 | 1.0 |",
        "| | making | 30.0 | | |",
        "| newcomer | `open` | 1.5 | 0.5 | 1.0 |",
        "| owner | `export ../view` | 2.0 | 1.0 | 1.0 |",
        "| newcomer | in all | 82 | 100 | |",
        "| owner | in all | 2 | 1 | |",
    ]
