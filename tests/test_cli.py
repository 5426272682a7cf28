"""The commands as people call them, and what they leave behind."""

import argparse
import dataclasses
import json
import re
import shutil
import stat

import numpy as np
import pytest
from cli_examples import PNG, protect, tree

import ugejax
from ugejax.app import checkpoint
from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.cli import evaluate, main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.cli.catalogue import gather
from ugejax.app.cli.list import CATALOGUE, registries_sha256
from ugejax.app.cli.originals import load_test
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.lock import alone_in
from ugejax.app.release import read_release
from ugejax.countermeasures import COUNTERMEASURES


def test_release_and_key(made):
    card = json.loads((made / "R" / "card.json").read_text())
    key = json.loads((made / "key-R" / "key.json").read_text())
    assert set(tree(made / "R")) == {"data.npz", "card.json", "manifest.csv"}
    assert card["method"] == "uge"
    assert card["eps"] == pytest.approx(32 / 255)
    assert 0 < card["realised_eps"]["linf"] <= card["eps"] + 1e-9
    assert card["key_fingerprint"] == key["fingerprint"]
    assert any("class-means" in limit for limit in card["limits"])
    assert any("waves of their periods" in limit for limit in card["limits"])
    assert card["source"]["name"] == "../toy.npz"
    with np.load(made / "R" / "data.npz") as data:
        assert data["data"].shape == (48, 8, 8, 1)
        assert data["targets"].dtype == np.int32
    for content in tree(made / "R").values():
        assert key["secret"].encode() not in content
        assert bytes.fromhex(key["secret"]) not in content
        assert str(made).encode() not in content  # where the owner keeps his images is nobody's business
    assert stat.S_IMODE((made / "key-R").stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "key-R" / "key.json").stat().st_mode) == 0o600
    assert [path.name for path in made.iterdir() if "partial" in path.name] == []


def test_a_second_time_there_is_nothing_to_do(made, capsys):
    before = tree(made)
    assert main(protect(made, "R", "--seed", "0")) == 0
    assert "nothing to do" in " ".join(capsys.readouterr().out.split())
    assert main(protect(made, "R")) == 0  # the key is there; the seed need not be repeated
    assert main([*protect(made, "R"), "--save-images"]) == 2
    assert "without --save-images" in capsys.readouterr().err
    assert tree(made) == before


def test_the_seed_decides_and_without_it_no_two_keys_are_alike(place, capsys):
    again = protect(place, "again", "--seed", "0")
    assert main(again) == 0
    assert "guess" in capsys.readouterr().out
    assert tree(place / "again") == tree(place / "R")
    assert (place / "key-again" / "key.json").read_bytes() == (place / "key-R" / "key.json").read_bytes()
    for name in ("a", "b"):
        assert main(protect(place, name)) == 0
    assert "guess" not in capsys.readouterr().out
    cards = [json.loads((place / name / "card.json").read_text()) for name in ("R", "other", "a", "b")]
    assert len({card["key_fingerprint"] for card in cards}) == 4
    assert [card["key_from_seed"] for card in cards] == [True, True, False, False]


def test_images_on_request(place):
    assert main(protect(place, "pictures", "--save-images")) == 0
    pictures = sorted((place / "pictures" / "images").iterdir())
    assert len(pictures) == 48
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)


def test_an_evaluation_that_was_cut_off_goes_on_within_a_training(made, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SPACING", 0.0)
    save, saved = StepCheckpoints.save, []

    def command(name):
        where = ["--out", str(tmp_path / name), "--cache", str(tmp_path / f"cache-{name}")]
        return ["evaluate", str(made / "R"), "--key", str(made / "key-R"), *where, "--hackers", "mlp", "--epochs", "3"]

    def found(name):
        rows = json.loads((tmp_path / name / "results.json").read_text())["rows"]
        return [{field: row[field] for field in row if field != "seconds"} for row in rows]

    def cut_off(checkpoints, step, tree):
        save(checkpoints, step, tree)
        saved.append(step)
        if len(saved) == 5:
            raise KeyboardInterrupt

    assert main(command("whole")) == 0
    monkeypatch.setattr(StepCheckpoints, "save", cut_off)
    assert main(command("cut")) == 130
    (left,) = (tmp_path / "cut" / "trainings").iterdir()
    assert [path.name for path in left.iterdir()] == ["2"]
    assert main(command("cut")) == 0
    # Four trainings of three epochs each: the partner's and the hacker's on either set, none of them begun twice.
    assert saved == 4 * [1, 2, 3]
    assert found("cut") == found("whole") and len(found("cut")) == 2
    assert not (tmp_path / "cut" / "trainings").exists()


def test_evaluate_and_report(made, tmp_path, capsys):
    out = tmp_path / "E"
    arguments = ["evaluate", str(made / "R"), "--key", str(made / "key-R"), "--out", str(out)]
    assert main([*arguments, "--hackers", "wrong-key", "--countermeasures", "none,blur", "--epochs", "1"]) == 0
    table = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert {"schema", "dataset", "release", "n_train", "n_test", "seed", "rows", "summary"} <= set(results)
    assert (results["schema"], results["n_train"], results["n_test"]) == (1, 48, 12)
    assert results["release"] == str(made / "R")
    assert 0 < results["realised_linf"] <= 32
    roles = [(row["role"], row["network"], row["countermeasure"]) for row in results["rows"]]
    assert roles == [
        ("authorized", "mlp", "none"),
        ("wrong_key", "mlp", "none"),
        ("wrong_key", "mlp", "blur"),
    ]
    for row in results["rows"]:
        assert {
            "clean_accuracy", "protected_accuracy", "protected_peak_accuracy", "retention", "epochs", "seconds", "seed"
        } <= set(row)  # fmt: skip
        assert 0 <= row["protected_accuracy"] <= row["protected_peak_accuracy"] <= 1
        assert row["epochs"] == 1
    # The view of the release is that of the originals, bit by bit, hence so is the trained network.
    assert results["rows"][0]["clean_accuracy"] == results["rows"][0]["protected_accuracy"]
    assert {"authorized_retention", "worst_hacker", "worst_hacker_countermeasure", "mean_hacker"} <= set(
        results["summary"]
    )
    for name in ("images.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(PNG)
    assert main(["report", str(out)]) == 0
    said = f"{out}/report.html: open it in a browser; report.md beside it says the same as text\n"
    assert capsys.readouterr().out == table + said
    key = json.loads((made / "key-R" / "key.json").read_text())
    with np.load(out / "evidence.npz") as evidence:
        assert [str(title) for title in evidence["feature_titles"]] == ["authorized mlp, trained on the release"]
        assert evidence["features"].shape == (1, 12, 12)
    for name in ("report.html", "report.md", "results.json", "evidence.npz"):
        content = (out / name).read_bytes()
        assert key["secret"].encode() not in content
        assert bytes.fromhex(key["secret"]) not in content


def test_attack_needs_no_key_and_takes_a_purifier(made, tmp_path, monkeypatch):
    out = tmp_path / "A"
    (tmp_path / "beside.py").write_text("def negative(images):\n    return 255 - images\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["attack", str(made / "R"), "--out", str(out), "--hackers", "mlp", "--epochs", "1"]
    assert main([*arguments, "--purifier", "beside:negative"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [(row["role"], row["countermeasure"]) for row in results["rows"]] == [
        ("hacker", "none"), ("hacker", "purifier")
    ]  # fmt: skip
    assert results["summary"]["authorized_retention"] is None


def test_images_show_the_largest_change_whatever_the_norm_of_the_budget(made, tmp_path, monkeypatch):
    out, shown = tmp_path / "R", []
    monkeypatch.setattr(evaluate, "draw_images", lambda *arguments: shown.append(arguments[-1]))
    assert main(["protect", str(made / "toy.npz"), "--out", str(out), "--method", "lsp", "--set", "block=2"]) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["norm"] == "l2"
    test = ["--test", str(made / "toy.npz")]
    assert main(["attack", str(out), "--out", str(tmp_path / "A"), "--hackers", "mlp", "--epochs", "1", *test]) == 0
    assert shown == [card["realised_eps"]["linf_levels"]]


def test_train_needs_the_release_and_the_key_alone(place, tmp_path, capsys):
    hidden = (place / "toy.npz").rename(tmp_path / "elsewhere.npz")
    arguments = ["train", str(place / "R"), "--key", str(place / "key-R"), "--out", str(tmp_path / "T")]
    assert main(arguments) == 0
    assert main([*arguments, "--test", str(hidden)]) == 0
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "T" / "results.json").read_text())
    assert (results["epochs"], results["n_train"], results["form"]) == (2, 48, "keyed-dither")
    assert 0 <= results["accuracy"]["training"] <= 1
    assert 0 <= results["accuracy"]["test"] <= 1
    # The second call found the trained network and scored it again.
    assert lines[0].split(", ")[0] in lines[1]


@pytest.mark.parametrize(("name", "n"), [("more.npz", 60), ("few.npz", 6), ("moved/toy.npz", 12)])
def test_named_test_images_are_all_of_another_source_and_those_held_out_of_the_same(name, n, made, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    shutil.copy(made / "toy.npz", file)
    if n == 6:  # less than the 12 that the release's own source holds out
        with np.load(file) as data:
            np.savez(file, data=data["data"][:6], targets=data["targets"][:6])
    assert len(load_test(made / "R", read_release(made / "R"), str(file), None).images) == n


@pytest.mark.parametrize("command", ["protect", "train", "attack"])
def test_two_runs_in_one_folder_are_refused(command, place, capsys):
    if command == "protect":
        arguments = protect(place, "new", "--seed", "0")
        assert main(arguments) == 0
        shutil.rmtree(place / "new")
        (held,) = (place / "key-new" / "runs").iterdir()
    else:
        held = place / "trained"
        held.mkdir()
        more = ["--key", str(place / "key-R")] if command == "train" else ["--hackers", "mlp"]
        arguments = [command, str(place / "R"), "--out", str(held), "--epochs", "1", *more]
    before = tree(place)
    capsys.readouterr()
    with alone_in(held):
        assert main(arguments) == 2
    error = capsys.readouterr().err
    assert str(held) in error and error.count("\n") == 1
    assert tree(place) == before
    assert main(arguments) == 0


def test_nothing_is_written_into_a_release(place, capsys):
    before, inside = tree(place / "R"), str(place / "R" / "inside" / "x")
    key = ["--key", str(place / "key-R")]
    for command in (
        ["evaluate", str(place / "R"), *key, "--out", str(place / "R")],
        ["attack", str(place / "other"), "--out", inside],
        ["train", str(place / "R"), *key, "--out", inside],
        ["export", str(place / "other"), "npz", "--out", inside],
        ["export-key", str(place / "key-R"), "--out", inside],
        ["protect", str(place / "toy.npz"), "--out", str(place / "new"), "--key", inside],
    ):
        assert main(command) == 2
        assert "lies in a release, which is public" in capsys.readouterr().err
    assert tree(place / "R") == before


def test_originals_that_have_moved_hold_the_test_images_as_well(place, tmp_path, capsys):
    moved = str((place / "toy.npz").rename(tmp_path / "moved.npz"))
    arguments = ["attack", str(place / "R"), "--out", str(tmp_path / "A"), "--hackers", "mlp", "--epochs", "1"]
    assert main(arguments) == 2
    assert "say where they are with --originals" in capsys.readouterr().err
    assert main([*arguments, "--originals", moved]) == 0


def test_verify(place, tmp_path, capsys):
    arguments = ["verify", str(place / "R"), "--key", str(place / "key-R"), "--originals", "card"]
    assert main([*arguments, "--out", str(tmp_path / "checks.json")]) == 0
    said = capsys.readouterr().out
    assert "differs by at most 0 grey levels" in next(line for line in said.splitlines() if "blindness" in line)
    assert "FAILED" not in said
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert checks["passed"]
    assert {"blindness", "realised eps", "key fingerprint"} <= {check["name"] for check in checks["checks"]}

    assert main(["verify", str(place / "R"), "--key", str(place / "key-other")]) == 1
    assert "FAILED key fingerprint" in capsys.readouterr().out


def test_verify_finds_words_of_the_view(place, capsys):
    view = build_authorized(read_key(place / "key-R"), place / "key-R").view
    card = json.loads((place / "R" / "card.json").read_text())
    card["settings"]["debug"] = np.asarray(view.secret).tolist()
    (place / "R" / "card.json").write_text(json.dumps(card))
    assert main(["verify", str(place / "R"), "--key", str(place / "key-R")]) == 1
    assert "FAILED key material: 'card.json' holds a secret of the key" in capsys.readouterr().out


@pytest.mark.parametrize("with_originals", [False, True])
def test_verify_finds_one_changed_pixel(place, capsys, with_originals):
    file = place / "R" / "data.npz"
    with np.load(file) as data:
        images, targets = data["data"].copy(), data["targets"]
    images[5, 0, 0] ^= 255
    np.savez(file, data=images, targets=targets)
    assert main(["verify", str(place / "R"), *(["--originals", "card"] if with_originals else [])]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_baseline_makes_a_release_and_no_key(made, tmp_path, capsys):
    out = tmp_path / "em"
    settings = ["--set", "surrogate=mlp", "--set", "rounds=1", "--set", "pgd_steps=2", "--set", "train_steps=2"]
    command = ["protect", str(made / "toy.npz"), "--out", str(out), "--key", str(tmp_path / "K"), "--method", "em"]
    assert main([*command, *settings, "--n-test", "12", "--eps", "32/255"]) == 0
    assert not (tmp_path / "K").exists()
    card = json.loads((out / "card.json").read_text())
    assert (card["method"], card["settings"]["rounds"], card["settings"]["surrogate"]) == ("em", 1, "mlp")
    assert 0 < card["realised_eps"]["linf"] <= 32 / 255 + 1e-9
    assert main(["verify", str(out), "--originals", "card"]) == 0
    before = tree(out)
    assert main([*command, *settings, "--n-test", "12", "--eps", "32/255"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert tree(out) == before
    attacked = ["attack", str(out), "--out", str(tmp_path / "A"), "--hackers", "mlp", "--epochs", "2"]
    assert main(attacked) == 0
    rows = json.loads((tmp_path / "A" / "results.json").read_text())["rows"]
    assert [(row["role"], row["network"]) for row in rows] == [("hacker", "mlp")]


def test_list_names_everything(capsys):
    catalogue = json.loads(CATALOGUE.read_text())
    anew = {"registries_sha256": registries_sha256(), "kinds": gather()}
    assert catalogue == anew, "write it anew: python -m ugejax.app.cli.catalogue"
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == gather()
    assert main(["list", "countermeasures", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"countermeasures": gather()["countermeasures"]}
    assert main(["list", "networks"]) == 0
    assert "res-tiny" in (said := capsys.readouterr().out) and "keyed-dither" not in said
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("res-tiny", "r18", "keyed-dither", "frozen-backbone", "crop-flip", "ueraser-max", "em-class"):
        assert name in said
    assert "linf 2/255; surrogate=cnn; epochs=15; checkpoints=5" in " ".join(said.split())  # sep's


def test_list_sees_what_was_registered_since_its_catalogue_was_written(monkeypatch, capsys):
    monkeypatch.setitem(COUNTERMEASURES, "mine", dataclasses.replace(COUNTERMEASURES["grey"], summary="of my own"))
    assert main(["list", "countermeasures"]) == 0
    assert "of my own" not in capsys.readouterr().out
    monkeypatch.setattr("ugejax.app.cli.list.registries_sha256", lambda: "another")
    assert main(["list", "countermeasures"]) == 0
    assert "of my own" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"ugejax {ugejax.__version__}\n"


def test_every_command_and_option_says_what_it_is():
    def parsers(parser):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from parsers(command)

    found = list(parsers(build_parser()))
    assert len(found) > 15
    for parser in found:
        assert re.fullmatch(r"[A-Z].+\.", parser.description, re.DOTALL), parser.prog
        nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        assert all(action.help for action in parser._actions if action not in nested), parser.prog
