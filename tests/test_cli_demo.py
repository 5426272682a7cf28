"""`ugejax demo`: a protection by the defaults of `ugejax protect`, its evaluation and its report, in one folder."""

import dataclasses
import json
import re
import shlex

import pytest
from cli_examples import PNG

from ugejax.app.cli import demo, main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.protection import method_of
from ugejax.uge import Method


def test_the_method_is_the_default_one_whatever_that_is():
    parsed = build_parser().parse_args(["protect", *demo.PROTECTION.split(), "--out", "R", "--key", "K"])
    assert parsed.source == "digits-photos"
    assert (parsed.method, parsed.authorized, parsed.term) == ("uge", "keyed-dither", [])
    given = {field.name: getattr(parsed, field.name, None) for field in dataclasses.fields(Method)}
    assert {name: value for name, value in given.items() if value is not None} == {}


def test_the_demo_leaves_release_key_and_report_and_says_how_else_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PROTECTION", "digits-photos --n-train 40 --n-test 20 --network mlp")
    monkeypatch.setattr(demo, "HACKERS", "mlp,wrong-key")
    monkeypatch.setattr(demo, "EPOCHS", 1)
    out = tmp_path / "the demo"
    assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    for name in ("release/data.npz", "key/key.json", "evidence.npz", "report.html", "report.md"):
        assert (out / name).is_file(), name
    for name in ("images.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(PNG)
    card = json.loads((out / "release" / "card.json").read_text())
    assert (card["n"], card["image_shape"], card["source"]["name"]) == (40, [32, 32, 3], "digits-photos")
    assert card["eps"] == pytest.approx(8 / 255)
    assert card["psnr"]["mean"] >= 30
    assert card["settings"] == json.loads(json.dumps(method_of(["keyed-dither"]).described))
    results = json.loads((out / "results.json").read_text())
    assert (results["dataset"], results["n_test"]) == ("digits-photos", 20)
    assert [(row["role"], row["countermeasure"], row["epochs"]) for row in results["rows"]] == [
        ("authorized", "none", 1), ("hacker", "none", 1), ("wrong_key", "none", 1), ("hacker", "crop-flip", 2)
    ]  # fmt: skip
    assert results["rows"][0]["retention"] in (1, None)
    protecting, evaluating = re.findall(r"^ugejax (.*?)(?:, and mlp once more with crop-flip)?$", said, re.MULTILINE)
    parsed = build_parser().parse_args(shlex.split(protecting))
    assert (parsed.seed, parsed.out, parsed.key) == (3, out / "release", [out / "key"])
    # The command that it names finds the same trainings in the cache, and has their rows.
    assert main(shlex.split(evaluating)) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert rows == results["rows"][:3]
