"""The arena without training: what is asked for, what is missing, how long it takes, and what the leaderboard says."""

import csv
import json
import re

import pytest

from ugejax.app.arena.estimate import kind_of, remaining, share_begun
from ugejax.app.arena.folder import Folder
from ugejax.app.arena.grid import Grid, check_network, parse_methods, parse_networks, parse_settings
from ugejax.app.arena.leaderboard import make_leaderboard
from ugejax.app.arena.plan import Job, jobs_of, missing
from ugejax.app.arena.rows import COLUMNS, in_order, job_of
from ugejax.app.duration import duration
from ugejax.data import Source
from ugejax.errors import UserError

FACTS = {"dataset": "a <b> & c", "n_train": 60, "n_test": 30, "eps": 8 / 255, "epochs": 1}


def make_grid(**changes) -> Grid:
    arguments = {
        "source": Source("digits"), "methods": ("lsp", "uge"), "networks": ("cnn", "mlp"),
        "countermeasures": ("none", "grey"), "seeds": 2,
    }  # fmt: skip
    return Grid(**arguments | changes)


def row(method: str, network: str, countermeasure: str, clean: float, protected: float, **changes) -> dict:
    cost = {"psnr_mean": 30.0, "ssim_mean": 0.9, "realised_linf": 8 / 255, "realised_l2": 1.0}
    found = {"clean_accuracy": clean, "protected_accuracy": protected, "generation_seconds": 2.0, "seconds": 8.0}
    names = {"method": method, "seed": 0, "role": "hacker", "network": network, "countermeasure": countermeasure}
    return dict.fromkeys(COLUMNS) | cost | found | names | changes


def test_a_grid_is_every_method_network_counter_measure_and_seed_with_one_control_for_all_methods():
    jobs = jobs_of(make_grid())
    hackers = [job for job in jobs if job.kind == "hacker"]
    assert len(set(hackers)) == len(hackers) == 2 * 2 * 2 * 2
    assert sum(job.kind == "control" for job in jobs) == 2 * 2 * 2
    # The key's holder fights nothing, grey or not.
    assert [(job.seed, job.countermeasure) for job in jobs if job.kind == "authorized"] == [(0, "none"), (1, "none")]
    assert [job.title for job in jobs if job.kind == "protect"] == [
        f"protect {method} seed {seed}" for method in ("lsp", "uge") for seed in (0, 1)
    ]
    place = {job: index for index, job in enumerate(jobs)}
    assert all(place[need] < place[job] for job in jobs for need in job.needs)


def test_missing_is_what_rows_and_their_needs_lack():
    jobs = jobs_of(make_grid())
    assert missing(jobs, []) == jobs
    rows = [job for job in jobs if job.kind in ("hacker", "authorized")]
    assert missing(jobs, rows) == []
    lost = Job("hacker", 1, "lsp", "mlp", "grey")
    left = missing(jobs, [job for job in rows if job != lost])
    assert left == [Job("protect", 1, "lsp"), lost]  # uge's row had the same control
    other = Job("hacker", 1, "uge", "mlp", "grey")
    control = Job("control", 1, network="mlp", countermeasure="grey")
    assert set(missing(jobs, [job for job in rows if job not in (lost, other)])) >= {lost, control, other}
    grown = jobs_of(make_grid(methods=("lsp", "uge", "tap")))
    assert {job.method for job in missing(grown, rows)} == {"tap"}


def test_the_time_that_remains_is_that_of_jobs_of_the_kind():
    jobs = [
        Job("protect", 1, "lsp"), Job("hacker", 1, "lsp", "cnn", "none"), Job("authorized", 0, "uge", "cnn", "none"),
        Job("hacker", 1, "lsp", "mlp", "none"),
    ]  # fmt: skip
    assert str(remaining(jobs, {})) == "unknown"
    measured = {kind_of(jobs[1]): [50.0, 70.0]}
    rest = remaining(jobs, measured)
    assert (rest.seconds, rest.trainings, rest.protections) == (3 * 60, 1, 1)  # the authorized network trains twice
    assert str(rest) == "about 3 min and 1 training and 1 protection of unknown length"
    measured |= {kind_of(jobs[0]): [4.0], kind_of(jobs[3]): [6.0]}
    assert remaining(jobs, measured).seconds == 4 + 3 * 60 + 6
    assert remaining(jobs[1:], measured, begun=0.25).seconds == 45 + 120 + 6
    # Of the evaluation's trials (control, release) a hacker is the second, of (originals, release, backbone) the
    # authorized network is the first and the last.
    assert share_begun(jobs[1], 1, 0.5) == 0.5
    assert [share_begun(jobs[2], trials, 0.5) for trials in (0, 2)] == [0.25, 0.75]
    assert [duration(seconds) for seconds in (44.6, 95, 12600)] == ["45 s", "2 min", "3.5 h"]
    assert str(remaining([], measured)) == "about 0 s"


def test_leaderboard_of_a_worked_example():
    rows = [
        row("lsp", "cnn", "none", 0.8, 0.2), row("lsp", "mlp", "none", 0.6, 0.3),
        row("lsp", "cnn", "grey", 0.7, 0.4), row("lsp", "mlp", "grey", 0.5, 0.5),
        row("uge", "cnn", "none", 0.8, 0.1), row("uge", "mlp", "none", 0.6, 0.2),
        row("uge", "cnn", "grey", 0.7, 0.6), row("uge", "mlp", "grey", 0.5, 0.3),
        row("tap", "cnn", "none", 0.8, 0.0),
        row("uge", "cnn", "none", 0.9, 0.72, role="authorized"),
    ]  # fmt: skip
    board = make_leaderboard(rows)
    assert board.columns == ("mean", "share of clean", "none", "grey")
    assert (board.networks, board.seeds) == (("cnn", "mlp"), 1)
    lines = {line.title: line for line in board.lines}
    assert [line.title for line in board.lines] == ["originals", "authorized", "uge", "lsp", "tap"]

    def values(title: str) -> list:
        return [cell.value if cell.value is None else pytest.approx(cell.value) for cell in lines[title].cells]

    assert values("originals") == [0.65, 1.0, 0.7, 0.6]
    assert values("lsp") == [0.35, 0.35 / 0.65, 0.25, 0.45]
    assert values("uge") == [0.3, 0.3 / 0.65, 0.15, 0.45]
    assert values("authorized") == [None, 0.8, 0.72, None]
    assert values("tap") == [None, 0.0, 0.0, None]
    assert [cell.best for cell in lines["uge"].cells] == [True, True, True, True]
    assert [cell.best for cell in lines["lsp"].cells] == [False, False, False, True]  # as low as uge
    # One network of two: not compared, though it is the lowest.
    assert not any(cell.best or cell.complete for cell in lines["tap"].cells)
    assert lines["authorized"].cells[1].complete
    costs = {cost.method: cost for cost in board.costs}
    assert (costs["lsp"].psnr, costs["lsp"].linf, costs["lsp"].seconds) == (30.0, 8 / 255, 2.0)


def test_columns_stand_in_the_order_of_the_registry_those_of_one_hacker_after_their_first():
    names = ["jpeg-10", "grey+jpeg-10", "of-yesterday", "grey", "none", "crop-flip+grey"]
    rows = [row("lsp", "cnn", name, 0.8, 0.2) for name in names]
    ordered = ("none", "crop-flip+grey", "grey", "grey+jpeg-10", "jpeg-10", "of-yesterday")
    assert make_leaderboard(rows).columns[2:] == ordered
    assert tuple(row["countermeasure"] for row in in_order(rows)) == ordered


def test_means_are_over_seeds_too_and_a_lonely_method_is_not_the_best():
    rows = [
        row("lsp", "cnn", "none", 0.8, 0.2, realised_linf=8 / 255),
        row("lsp", "cnn", "none", 0.6, 0.4, seed=1, realised_linf=7 / 255, generation_seconds=None, psnr_mean=None),
    ]
    board = make_leaderboard(rows)
    control, lsp = board.lines
    assert [cell.value for cell in control.cells] == pytest.approx([0.7, 1.0, 0.7])
    assert [cell.value for cell in lsp.cells] == pytest.approx([0.3, 0.3 / 0.7, 0.3])
    assert not any(cell.best for cell in lsp.cells)
    cost = board.costs[0]
    assert (board.seeds, cost.linf, cost.seconds, cost.psnr) == (2, 8 / 255, 2.0, 30.0)


def test_what_the_files_say_is_the_same(tmp_path):
    rows = [
        row("uge", "cnn", "none", 0.8, 0.3, seed=1), row("uge", "cnn", "none", 0.8, 0.5),
        row("lsp", "cnn", "none", 0.8, 0.125), row("lsp", "cnn", "none", 0.8, 0.25, seed=1),
        row("uge", "cnn", "none", 0.8, 0.8, role="authorized"), row("tap", "cnn", "none", 0.8, 0.7),
    ]  # fmt: skip
    folder = Folder(tmp_path)
    folder.write_results(FACTS, rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "leaderboard.html", "leaderboard.md", "results.csv", "results.json"
    ]  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["schema"], results["n_train"]) == (1, 60)
    assert results["rows"] == in_order(rows) == folder.rows()
    assert [job_of(r).title for r in results["rows"]][:3] == [
        "authorized uge cnn none seed 0", "hacker uge cnn none seed 0", "hacker uge cnn none seed 1"
    ]  # fmt: skip
    with open(tmp_path / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert table == [{name: "" if v is None else str(v) for name, v in r.items()} for r in results["rows"]]

    page = (tmp_path / "leaderboard.html").read_text()
    assert "a &lt;b&gt; &amp; c" in page
    assert not re.search(r"https?:|src=|<link|<script|url\(|@import", page)
    text = (tmp_path / "leaderboard.md").read_text()
    for figure in ("0.188", "0.700†"):
        assert figure in text
        assert figure in page
    assert "**0.188**" in text
    assert '<td class="best">0.188</td>' in page
    assert "some networks or seeds are missing" in page
    budget = "L-infinity budget 8/255 of the methods bound in L-infinity, the others at their own"
    assert budget in text
    assert budget in page
    assert "made by the same code" not in text
    folder.write_results(FACTS, [*rows[1:], rows[0] | {"environment": "of yesterday"}])
    for name in ("leaderboard.md", "leaderboard.html"):
        assert "the rows were not all made by the same code" in (tmp_path / name).read_text()


def test_a_folder_takes_a_grid_that_grows_and_no_other(tmp_path):
    folder = Folder(tmp_path / "arena")
    grid = make_grid(settings={"lsp": ("block=2",)})
    folder.release(Job("protect", 0, "lsp")).mkdir(parents=True)
    (folder.path / "arena.json").write_text(json.dumps(Folder(tmp_path / "new").claim(grid)))
    before = (folder.path / "arena.json").read_bytes()
    for grown in (
        make_grid(methods=("tap",)),
        make_grid(settings={"lsp": ("block=2",)}, seeds=3, networks=("r18",), countermeasures=("blur",)),
    ):
        assert folder.claim(grown)["settings"]["lsp"] == ["block=2"]
    for changes, says in (
        ({"source": Source("digits", n_train=60)}, "source"),
        ({"eps": 0.1}, "eps None, not 0.1"),
        ({"epochs": 3}, "epochs None, not 3"),
        ({"authorized_network": "mlp"}, "authorized_network cnn, not mlp"),
        ({"settings": {}}, "lsp with `settings`"),
    ):
        with pytest.raises(UserError, match=says):
            folder.claim(make_grid(**{"settings": {"lsp": ("block=2",)}} | changes))
    assert (folder.path / "arena.json").read_bytes() == before
    (folder.path / "arena.json").write_text("{")
    with pytest.raises(UserError, match=r"arena\.json cannot be read"):
        folder.claim(grid)
    (folder.path / "arena.json").unlink()
    (folder.path / "results.json").write_text('{"rows": [{}]}')
    with pytest.raises(UserError, match="exists and is no arena"):
        folder.claim(grid)
    with pytest.raises(UserError, match=r"results\.json: cannot be read"):
        folder.rows()


def test_settings_bind_once_a_release_or_a_row_was_made_with_them(tmp_path):
    folder = Folder(tmp_path)
    other = make_grid(methods=("random", "lsp"), settings={"lsp": ("block=4",)})
    folder.write_claim(folder.claim(make_grid(methods=("random", "lsp"), settings={"lsp": ("block=2",)})))
    (folder.path / "releases" / "random-class-0").mkdir(parents=True)
    assert folder.claim(other)["settings"]["lsp"] == ["block=4"]
    folder.write_results(FACTS, [row("lsp", "cnn", "none", 0.9, 0.3)])
    with pytest.raises(UserError, match="lsp with `settings`"):
        folder.claim(other)


def test_a_radius_is_for_the_methods_of_its_norm():
    grid = make_grid(eps=0.1)
    assert [grid.eps_of(name) for name in ("uge", "em", "lsp", "ops")] == [0.1, 0.1, None, None]


def test_lists_are_checked():
    assert parse_methods("uge, lsp,uge") == ("uge", "lsp")
    assert parse_networks("mlp,cnn") == ("mlp", "cnn")
    assert check_network("mlp", "network") == "mlp"
    assert parse_settings(["em.rounds=2", "em.pgd_steps=3"], ("em",)) == {"em": ("rounds=2", "pgd_steps=3")}
    for call, says in (
        (lambda: parse_methods("lsq"), "`methods`: unknown 'lsq': did you mean 'lsp'"),
        (lambda: parse_methods(","), "`methods`: names none"),
        (lambda: parse_networks("cnnn"), "`networks`: unknown network 'cnnn': did you mean 'cnn'"),
        (lambda: parse_settings(["lsp.block=2"], ("em",)), "`settings` lsp.block=2: write BASELINE.NAME=VALUE"),
        (lambda: parse_settings(["block=2"], ("lsp",)), "`settings` block=2: write"),
        (lambda: parse_settings(["uge.eps=2"], ("uge",)), "`settings` uge.eps=2: write"),
        (lambda: parse_settings(["lsp.blok=2"], ("lsp",)), "`settings` lsp.blok=2: not name=value of a setting"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            call()
