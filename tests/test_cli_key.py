"""`ugejax key show` says what a key is and never its secret."""

import json
import os
from pathlib import Path

import pytest
from cli_examples import TINY, tree, write_toy

from ugejax.app.cli import main
from ugejax.app.keys import read_key
from ugejax.app.release.read import read_card
from ugejax.app.release.secrets import forms_of_secret


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The release R of the key `plain`, and of the key `locked` with a passphrase."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    (folder / "passphrase").write_text("correct horse battery")
    command = ["protect", str(folder / "toy.npz"), *TINY, "--seed", "0"]
    for name, more in (("plain", []), ("locked", ["--passphrase-file", str(folder / "passphrase")])):
        assert main([*command, "--out", str(folder / f"R-{name}"), "--key", str(folder / name), *more]) == 0
    return folder


@pytest.mark.parametrize("name", ["plain", "locked"])
def test_a_key_is_shown_without_its_secret(name, made, capsys):
    key, card, before = read_key(made / "plain"), read_card(made / f"R-{name}"), tree(made)
    capsys.readouterr()
    assert main(["key", "show", str(made / name)]) == 0
    assert main(["key", "show", str(made / name), "--json"]) == 0
    output = capsys.readouterr().out
    text, found = output[: output.index("{")], json.loads(output[output.index("{") :])
    described = {
        "form": "keyed-dither", "network": "mlp", "image_shape": [8, 8, 1], "num_classes": 3, "step": 64, "version": 2,
        "from_seed": True, "fingerprint": key.fingerprint, "locked": name == "locked",
    }  # fmt: skip
    assert {field: found[field] for field in described} == described
    (release,) = found["releases"]
    assert (release["name"], release["salt"]) == (f"R-{name}", card["salt"])
    for told in (key.fingerprint, "keyed-dither, step 64", "8x8x1, 3 classes", f"R-{name}, salt {card['salt']}"):
        assert told in text
    assert ("encrypted by a passphrase" in text) == (name == "locked") and "follows from a seed" in text
    assert not any(form in output.encode() for form in forms_of_secret(key.secret))
    assert tree(made) == before


def test_of_a_readable_key_that_was_changed_nothing_is_shown(made, tmp_path, capsys):
    content = json.loads((made / "plain" / "key.json").read_text())
    (tmp_path / "key.json").write_text(json.dumps(content | {"num_classes": 4}))
    assert main(["key", "show", str(tmp_path)]) == 2
    assert "fingerprint does not match" in capsys.readouterr().err
    (tmp_path / "key.json").write_text(json.dumps(content))
    assert main(["key", "show", str(tmp_path)]) == 0
    assert "none yet" in capsys.readouterr().out
    for damage in ("[]", "{}", '{"schema": 1, "releases": [{"run": "a", "salt": "b", "name": "c"}]}', "no JSON"):
        (tmp_path / "releases.json").write_text(damage)
        assert main(["key", "show", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "releases.json: cannot be read" in error and error.count("\n") == 1
    assert main(["key", "show", os.devnull]) == 2
