"""A key goes to a partner encrypted to his public key: it arrives as it was, and nobody else opens it."""

import io
import json
import stat
import zipfile
from pathlib import Path

import jax
import numpy as np
import pyrage
import pytest
from cli_examples import tree

from ugejax.app.checkpoint import packed_tree
from ugejax.app.cli import main
from ugejax.app.keys import (
    Made,
    build_authorized,
    check_key_is_free,
    has_passphrase,
    read_key,
    record_release,
    releases_of,
    write_key,
)
from ugejax.app.keys.handing import decrypted_key, encrypted_key, new_identity
from ugejax.app.release.secrets import forms_of_secret
from ugejax.authorized import new_key
from ugejax.errors import UserError
from ugejax.training import Recipe


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Path:
    """A folder with the key K, identities `mine` and `other`, and `K.age`, which is to the first."""
    folder = tmp_path_factory.mktemp("sent")
    key = new_key(
        b"seed 0", form="keyed-linear", network="mlp", image_shape=(4, 4, 1), num_classes=2, step=None,
        recipe=Recipe(epochs=1), from_seed=True,
    )  # fmt: skip
    write_key(folder / "K", key, build_authorized(key).arrays)
    record_release(folder / "K", Made("0" * 64, "1" * 32, "R"))
    (folder / "K" / "runs").mkdir()
    (folder / "K" / "runs" / "of the owner").write_text("his")
    for name in ("mine", "other"):
        assert main(["key", "identity", "--out", str(folder / name)]) == 0
    assert main(["key", "send", str(folder / "K"), "--to", public(folder), "--out", str(folder / "K.age")]) == 0
    return folder


def public(folder: Path) -> str:
    return (folder / "mine").read_text().split()[3]


def receive(folder: Path, out: Path, file: str = "K.age", *more: str) -> list[str]:
    return ["key", "receive", str(folder / file), "--identity", str(folder / "mine"), "--out", str(out), *more]


def test_a_key_arrives_as_it_was_without_what_is_the_owners(sent, tmp_path):
    assert main(receive(sent, tmp_path / "K")) == 0
    key, came = read_key(sent / "K"), read_key(tmp_path / "K")
    assert came == key
    arrays, others = (build_authorized(key, folder).arrays for folder in (sent / "K", tmp_path / "K"))
    assert jax.tree.all(jax.tree.map(np.array_equal, arrays, others))
    assert {path.name for path in (tmp_path / "K").iterdir()} == {"key.json", "network", "releases.json"}
    assert releases_of(tmp_path / "K") == releases_of(sent / "K")
    with pytest.raises(UserError, match="has made another release"):  # nor does a copy make one unasked
        check_key_is_free(tmp_path / "K", "2" * 64)
    assert stat.S_IMODE((tmp_path / "K").stat().st_mode) == 0o700
    content = (sent / "K.age").read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n")
    assert not any(form in content for form in forms_of_secret(key.secret))
    for file in ("mine", "K.age"):
        assert stat.S_IMODE((sent / file).stat().st_mode) == 0o600


def test_with_a_passphrase_it_is_never_readable_on_the_way(sent, tmp_path, monkeypatch):
    monkeypatch.setattr("ugejax.app.seal._SCRYPT", (16, 8, 1))
    (tmp_path / "passphrase").write_text("correct horse\n")
    given = ["--passphrase-file", str(tmp_path / "passphrase")]
    assert main(receive(sent, tmp_path / "K", "K.age", *given)) == 0
    assert has_passphrase(tmp_path / "K")
    assert main(["key", "send", str(tmp_path / "K"), "--to", public(sent), "--out", str(tmp_path / "age"), *given]) == 0
    assert (
        main([*receive(sent, tmp_path / "again")[:2], str(tmp_path / "age"), *receive(sent, tmp_path / "again")[3:]])
        == 0
    )
    assert read_key(tmp_path / "again") == read_key(sent / "K")
    forms = forms_of_secret(read_key(sent / "K").secret)
    assert not any(form in content for content in tree(tmp_path / "K").values() for form in forms)


def test_mistakes_and_damage_get_one_line_and_leave_nothing(sent, tmp_path, capfd):
    content = bytearray((sent / "K.age").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed").write_bytes(content)
    (tmp_path / "short").write_bytes(content[:100])
    (tmp_path / "none").write_bytes(b"")
    out, age = str(tmp_path / "new"), str(sent / "K.age")
    for arguments, says in (
        (["receive", age, "--identity", str(sent / "other"), "--out", out], "is to another public key"),
        (["receive", str(tmp_path / "changed"), "--identity", str(sent / "mine"), "--out", out], "was changed"),
        (["receive", str(tmp_path / "short"), "--identity", str(sent / "mine"), "--out", out], "was changed"),
        (["receive", str(tmp_path / "none"), "--identity", str(sent / "mine"), "--out", out], "no file of age"),
        (["receive", age, "--identity", age, "--out", out], "is no text"),
        (["receive", age, "--identity", str(sent / "K" / "key.json"), "--out", out], "something else than identities"),
        (["receive", age, "--identity", str(tmp_path / "none"), "--out", out], "is to another public key"),
        (["receive", age, "--identity", str(sent / "no"), "--out", out], "not a file"),
        (["receive", str(sent), "--identity", str(sent / "mine"), "--out", out], "not a file"),
        (["receive", age, "--identity", str(sent / "mine"), "--out", str(sent / "K")], "already exists"),
        (["send", str(sent / "K"), "--to", "age1xyz", "--out", out], "not a public key of age"),
        (["send", str(sent / "K"), "--to", public(sent), "--out", age], "names an existing folder or file"),
        (["identity", "--out", str(sent / "mine")], "names an existing folder or file"),
    ):
        before = tree(sent)
        assert main(["key", *arguments]) == 2, arguments
        error = capfd.readouterr().err
        assert says in error and error.count("\n") == 1
        assert tree(sent) == before and not Path(out).exists()


def test_what_came_is_not_trusted(sent, tmp_path):
    """age does not say who sent it."""
    identity, to = new_identity()
    key = read_key(sent / "K")
    text = (sent / "K" / "key.json").read_text()
    arrays = build_authorized(key, sent / "K").arrays
    packed = packed_tree(arrays)
    compressed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    objects = io.BytesIO()
    np.savez(objects, a=np.array([{}], object))
    for content, says in (
        (b"", "holds no key"),
        (b"[]\0" + packed, "holds no key"),
        (b"[" * 100_000 + b"\0" + packed, "holds no key"),
        (b"{}\0" + packed, "cannot be read as a key"),
        (json.dumps(json.loads(text) | {"num_classes": 3}).encode() + b"\0" + packed, "fingerprint does not match"),
        (json.dumps(json.loads(text) | {"releases": [{"run": 1}]}).encode() + b"\0" + packed, "no record of releases"),
        (json.dumps(json.loads(text) | {"releases": 1}).encode() + b"\0" + packed, "no record of releases"),
        (text.encode(), "holds no network"),
        (text.encode() + b"\0" + packed[:-9], "holds no network"),
        (text.encode() + b"\0" + compressed.getvalue(), "holds a compressed network"),
        (text.encode() + b"\0" + objects.getvalue(), "of another network"),
        (text.encode() + b"\0" + packed_tree({"theta_0": arrays["theta_0"]}), "of another network"),
    ):
        encrypted = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(to)])
        with pytest.raises(UserError, match=says) as caught:
            decrypted_key(encrypted, [identity], tmp_path / "file")
        assert "\n" not in str(caught.value)
    came, _, _ = decrypted_key(encrypted_key(key, arrays, [to]), [identity], tmp_path / "file")
    assert came == key
