"""The tables of the documentation are those of the committed results, or say where they come from."""

import re
from pathlib import Path

import pytest

from experiments import results_pages
from experiments.columns import FIELD, control_of
from experiments.results_pages import BLOCK, PLOT, TABLES, filled, pages, results
from experiments.tables import MISSING
from experiments.training_tables import (
    DEFAULT,
    beside_published,
    draw,
    drawn,
    methods,
    points,
    trainings,
    who_gets_what,
)  # fmt: skip

ROOT = Path(__file__).parent.parent
RECORDED = sorted((ROOT / "docs" / "results").glob("*.md"))


def test_committed_pages_are_what_the_command_writes():
    stale = [str(page.relative_to(ROOT)) for page in pages() if filled(page.read_text()) != page.read_text()]
    assert not stale, f"run python -m experiments.results_pages for {', '.join(stale)}"


def test_the_committed_figure_has_the_points_of_the_committed_results():
    assert drawn(PLOT) == points(results("trainings")), "run python -m experiments.results_pages"


def test_every_table_stands_on_a_page_and_once():
    named = [block[2] for page in pages() for block in BLOCK.finditer(page.read_text())]
    assert sorted(named) == sorted(TABLES)


def test_the_command_fills_in_what_is_stale_and_leaves_the_rest(monkeypatch, tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    stale = "before\n<!-- table bench-together -->\n| old |\n<!-- end -->\nafter\n"
    (tmp_path / "README.md").write_text(stale)
    (tmp_path / "docs" / "other.md").write_text("no table\n")
    monkeypatch.setattr(results_pages, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["results_pages"])
    assert results_pages.main() == 0
    text = (tmp_path / "README.md").read_text()
    assert text == stale.replace("| old |", TABLES["bench-together"]())
    assert "| cnn | 8 | cpu | 48.4 | 91.9 | 2.07 |" in text
    assert capsys.readouterr().out == "README.md\n"


def test_a_table_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="no-such"):
        filled("<!-- table no-such -->\n<!-- end -->")


@pytest.mark.parametrize("page", RECORDED, ids=lambda page: page.name)
def test_a_table_that_is_not_generated_says_where_its_figures_come_from(page):
    """Beside those of settings and page names, which have no figures of a measurement."""
    text = re.sub(r"```.*?```", "", BLOCK.sub("", page.read_text()), flags=re.DOTALL)
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        paragraphs = section.split("\n\n")
        for number, paragraph in enumerate(paragraphs):
            if re.search(r"^\|.*\b\d+\.\d+ \|", paragraph, re.MULTILINE):
                about = " ".join([paragraphs[number - 1], *paragraphs[number + 1 : number + 2]])
                assert "**Recorded by hand**" in about, paragraph
                assert re.search(r"\b20\d\d-\d\d-\d\d\b.*\bcommits?\s[0-9a-f]{7}\b", about, re.DOTALL), about


def row(method, last, *, countermeasure="none", role="hacker", seed=0, knows=None, settings=None, peak=None, version=1):
    """A training of 6 epochs of `net`, as experiments/results/trainings.json has it."""
    return {
        "version": version, "network": "net", "n_train": 1000, "n_test": 100, "recipe": {"epochs": 6, "shift": 2},
        "method": method, "settings": settings or {}, "countermeasure": countermeasure, "role": role, "knows": knows,
        "seed": seed, "last": last, "peak": peak or last, "seconds": 100 * last,
    }  # fmt: skip


def cells(rows, make=trainings) -> dict[str, list[str]]:
    """The lines of what `trainings` makes of rows, by the first cell; those of seconds after those of accuracies."""
    found: dict[str, list[str]] = {}
    for line in make(rows).splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            name, *others = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(name, []).extend(others)
    return found


def test_a_training_stands_beside_its_control_and_what_is_missing_is_a_dash():
    rows = [
        row("ar", 0.2, peak=0.3), row("originals", 0.8), row("ar", 0.5, countermeasure="grey"),
        row("uge", 0.7, role="authorized"), row("uge", 0.4, settings={"parametrisation": "codes"}),
    ]  # fmt: skip
    assert cells(rows) == {
        "trained on": ["none", "grey"] * 2,
        "originals": ["0.800 (0.800)", MISSING, "80", MISSING],
        "ar": ["0.200 (0.300), 0.25", f"0.500 (0.500), {MISSING}", "20", "50"],
        "uge, with the key": ["0.700 (0.700), 0.87", MISSING, "70", MISSING],
        "uge (parametrisation=codes)": ["0.400 (0.400), 0.50", MISSING, "40", MISSING],
    }


def test_a_control_agrees_in_recipe_countermeasure_seed_and_what_is_known():
    clean = row("originals", 0.8)
    for other in (
        row("originals", 0.8, countermeasure="grey"),
        row("originals", 0.8, seed=1),
        row("originals", 0.8, knows={"method": "uge", "settings": {}}),
        clean | {"recipe": {"epochs": 6, "shift": 0}},
    ):
        assert cells([row("ar", 0.2), other])["ar"][0] == f"0.200 (0.200), {MISSING}"
    known = row("originals", 0.5, knows={"method": "ar", "settings": {}})
    assert cells([row("ar", 0.2), known, clean | {"seed": 1}]) == {
        "trained on": ["none"] * 2,
        "originals, knowing ar": ["0.500 (0.500)", "50"],
        "originals": ["0.800 (0.800)", "80"],
        "ar": ["0.200 (0.200), 0.40", "20"],
    }


def test_seeds_are_averaged_and_old_versions_left_out():
    rows = [row("ar", 0.2), row("ar", 0.4, seed=1), row("originals", 0.5), row("originals", 0.7, seed=1)]
    assert cells(rows)["ar"][0] == "0.300 (0.300), 0.50, 2 seeds"
    assert cells([*rows, row("ar", 0.1, version=2)])["ar"][0] == "0.100 (0.100), 0.20"
    assert trainings([]) == ""


def test_the_readme_names_the_best_hacker_of_either_kind_and_none_who_has_originals():
    def default(*arguments, **named):
        return row("uge", *arguments, settings=DEFAULT, **named)

    rows = [
        row("originals", 0.9), row("originals", 0.8, countermeasure="grey"), default(0.89, role="authorized"),
        default(0.1), default(0.2, countermeasure="grey"), default(0.15, countermeasure="jpeg-10"),
        default(0.25, countermeasure="class-means-oracle"), default(0.7, countermeasure="leaked-pairs-50"),
        row("uge", 0.85, countermeasure="grey"),
    ]  # fmt: skip
    assert cells(rows, who_gets_what) == {
        "who trains": ["on the release", "on originals"],
        "partner: has the key": ["0.890", "0.900"],
        "stranger": ["0.100", "0.900"],
        "stranger, the best without knowing the method: `grey`": ["0.200", "0.800"],
        "stranger, the best who knows the method: `class-means-oracle`": ["0.250", "0.900"],
    }


def test_who_subtracts_what_is_beyond_the_originals_has_the_control_of_none():
    found = cells([row("originals", 0.8), row("ar", 0.2, countermeasure="class-means-oracle")])
    assert found["originals"] == ["0.800 (0.800)", "0.800 (0.800)", "80", MISSING]  # trained once
    assert found["ar"][:2] == [MISSING, "0.200 (0.200), 0.25"]
    assert control_of("class-means-oracle+grey") == "grey"


def release(method, *, psnr, settings=None, **changes):
    """What was measured of a release that rows of `net` knew."""
    known = {"version": 1, "method": method, "settings": settings or {}, "network": "net", "n_train": 1000}
    return known | {"eps": 8 / 255, "norm": "linf", "linf": 8 / 255, "psnr": psnr, "seconds": 61.4} | changes


def every_column(method, accuracy, **changes):
    """Rows of all columns that methods are judged by, the same in each, but for one."""
    rows = [row(method, accuracy, countermeasure=name) for name in FIELD]
    return [one | changes if one["countermeasure"] == "orthogonal-projection" else one for one in rows]


def test_methods_are_summed_up_over_the_same_columns():
    rows = [
        *every_column("originals", 0.8), *every_column("ar", 0.2, last=0.55), row("ar", 0.9, countermeasure="coin"),
        row("uge", 0.1) | {"relabelled": 0.3}, row("uge", 0.6, role="authorized"),
        row("ops", 0.9, countermeasure="coin"),
    ]  # fmt: skip
    releases = [
        release("ar", psnr=35.02, eps=1.0, norm="l2", linf=39 / 255),
        release("ops", psnr=34.8, eps=1.0, linf=1.0, seconds=None),
        release("uge", psnr=31.41, settings={"parametrisation": "codes"}),  # of another release than the rows have
    ]
    found = cells({"rows": rows, "releases": releases}, methods)
    assert list(found) == ["method", "ar", "uge"]  # the most columns first; one of none of them has no line
    assert found["ar"] == [
        "0.250", "7 of 7", "orthogonal-projection: 0.550", "0.31", MISSING, MISSING, "L2 1.00", "39", "35.0", "61",
    ]  # fmt: skip
    assert found["uge"] == [
        "0.100", "1 of 7", "none: 0.100", "0.12", "0.300", "0.600, 0.75 of clean", MISSING, MISSING, MISSING, MISSING,
    ]  # fmt: skip
    budgets = [
        cells({"rows": rows, "releases": [release("ar", psnr=30, eps=eps)]}, methods)["ar"][6] for eps in (1.0, 8 / 255)
    ]
    assert budgets == ["none", "8/255"]


def test_the_figure_has_methods_with_columns_enough_and_a_measured_release(tmp_path):
    rows = [*every_column("ar", 0.2), row("uge", 0.1), *every_column("ops", 0.3)]
    found = {"rows": rows, "releases": [release("ar", psnr=35.024), release("uge", psnr=31)]}
    (point,) = points(found)
    assert point[1:] == ["ar", 7, 35.02, 0.2]
    assert drawn(tmp_path / "figure.png") == points({"rows": rows}) == []
    draw(tmp_path / "figure.png", [point])
    assert drawn(tmp_path / "figure.png") == [point]


def test_a_figure_far_from_the_published_one_is_marked():
    found = cells([row("ar", 0.2), row("ar", 0.6, countermeasure="grey"), row("uge", 0.1)], beside_published)
    assert found["method"] == ["none", "grey", "jpeg-10", "cutmix", "bdr"]
    assert found["ar"][:3] == ["0.117 / 0.200", "0.352 / 0.600 !", f"0.848 / {MISSING}"]
    assert found["em"][0] == f"0.208 / {MISSING}"
