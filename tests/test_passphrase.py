"""A key with a passphrase: nothing secret can be read, nothing else is different, and no kill loses anything."""

import getpass
import io
import json
import os
import pickle
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_examples import TINY, cut_off, tree, write_toy
from hypothesis import given, settings
from hypothesis import strategies as st

from ugejax.app import seal as module
from ugejax.app.checkpoint import StepCheckpoints, restore_tree, save_tree, seal_tree
from ugejax.app.cli import main
from ugejax.app.cli.opening import open_key
from ugejax.app.keys import build_authorized, has_passphrase, read_key, seal_of
from ugejax.app.lock import alone_in
from ugejax.app.noise_files import NoiseFiles, seal_rows
from ugejax.app.release.secrets import forms_of_secret
from ugejax.app.seal import Seal, lock, unlock
from ugejax.app.stored_generator import read_generator
from ugejax.errors import UserError
from ugejax.uge import NoiseState

PASSPHRASE = "correct horse bättery"
SEAL = Seal(bytes(range(32))) / "runs" / "noise"
EITHER = Seal(bytes(range(32)), required=False) / "runs" / "noise"


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """The passphrase is stretched less, so that trying one takes no second; no prompt finds a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCRYPT", (16, 8, 1))
        patch.setattr(sys, "stdin", io.StringIO())
        patch.delenv("UGEJAX_PASSPHRASE", raising=False)
        yield


def protect(folder: Path, name: str, *more: str) -> list[str]:
    out, key = folder / f"R-{name}", folder / f"key-{name}"
    return ["protect", str(folder / "toy.npz"), "--out", str(out), "--key", str(key), *TINY, "--seed", "0", *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Releases and keys of one seed, `plain` without and `locked` with the passphrase in the file `passphrase`."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n", encoding="utf-8")
    (folder / "wrong").write_text("a wrong one")
    (folder / "short").write_text("7 chars\n")
    generator = ["--parametrisation", "generator", "--perturbation-epochs", "1"]
    assert main(protect(folder, "plain", *generator)) == 0
    assert main(protect(folder, "locked", *generator, "--passphrase-file", str(folder / "passphrase"))) == 0
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A copy of `made` to be changed, and the working folder."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "place"))
    return tmp_path / "place"


def secrets_of(folder: Path) -> list[bytes]:
    """What nobody shall read, from a key folder that can be read."""
    key = read_key(folder)
    network = build_authorized(key, folder)
    arrays = [np.asarray(leaf).tobytes()[:64] for leaf in jax.tree.leaves(network.arrays)]
    training = np.asarray(jax.random.key_data(key.prng("training"))).tobytes()
    return [key.secret, training, *(content for content in arrays if len(set(content)) > 8)]


def readable(folder: Path, secrets: list[bytes]) -> set[str]:
    """The files in which one of them is found."""
    forms = frozenset().union(*(forms_of_secret(secret) for secret in secrets))
    return {name for name, content in tree(folder).items() if any(form in content for form in forms)}


def test_of_an_encrypted_key_nothing_secret_can_be_read_and_the_release_is_the_same(made):
    secrets = secrets_of(made / "key-plain")
    assert len(secrets) > 3
    assert "key.json" in readable(made / "key-plain", secrets)
    assert readable(made / "key-locked", secrets) == set()
    assert tree(made / "R-locked") == tree(made / "R-plain")
    names = {Path(name).name for name, content in tree(made / "key-locked").items() if content}
    assert names == {
        "key.json",
        "releases.json",
        "network.sealed",
        "generator.json.sealed",
        "weights.sealed",
        "1.sealed",
    }
    for file in (made / "key-locked").rglob("*"):
        assert stat.S_IMODE(os.stat(file).st_mode) & 0o077 == 0 or not file.name.endswith((".sealed", "key.json"))
    plain, locked = (json.loads((made / f"key-{name}" / "key.json").read_text()) for name in ("plain", "locked"))
    assert (plain.pop("schema"), locked.pop("schema")) == (3, 4)
    assert set(locked.pop("locked_secret")) == {"version", "salt", "nonce", "ciphertext"}
    assert len(plain.pop("secret")) == 32
    assert plain == locked
    assert read_key(made / "key-locked", lambda: PASSPHRASE) == read_key(made / "key-plain")


@pytest.mark.parametrize("given", ["file", "variable", "terminal"])
def test_every_command_takes_the_passphrase(given, place, monkeypatch, capsys):
    more = []
    if given == "file":
        more = ["--passphrase-file", "passphrase"]
    elif given == "variable":
        monkeypatch.setenv("UGEJAX_PASSPHRASE", PASSPHRASE)
    else:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(getpass, "getpass", lambda question: PASSPHRASE if "key-locked" in question else "")
    key = ["--key", "key-locked", *more]
    assert main(["verify", "R-locked", *key, "--originals", "card"]) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert main(["export-key", "key-locked", "--out", "view", *more]) == 0
    (generator,) = Path("key-locked/generators").iterdir()
    same = ["--parametrisation", "generator", "--perturbation-epochs", "1"]
    assert main(["protect", "toy.npz", "--out", "R-locked", *key, *TINY, *same]) == 0
    assert "nothing to do" in capsys.readouterr().out
    if given == "file":
        assert main(["train", "R-locked", *key, "--out", "T", "--epochs", "1"]) == 0
    assert main(["apply", str(generator), "no.npz", "--out", "applied", *more]) == 2
    assert main(["evaluate", "R-locked", *key, "--out", "E", "--originals", "no.npz"]) == 2
    said = capsys.readouterr().err.splitlines()[-2:]
    assert all("no.npz" in line for line in said)  # the key was read before


def test_a_passphrase_is_given_changed_and_taken_away(place, capsys, monkeypatch):
    for work in Path("key-plain/runs").iterdir():  # what a run that was cut off leaves behind
        (work / "noise-files").mkdir()
        (work / "noise-files" / "1.f32").write_bytes(np.arange(2 * 64, dtype=np.float32).tobytes())
        (work / "noise" / "2.orbax-checkpoint-tmp").mkdir()
    Path("key-plain/generators/.killed.partial").mkdir()
    secrets, before = secrets_of(Path("key-plain")), read_key(Path("key-plain"))
    assert main(["passphrase", "key-plain", "--new-passphrase-file", "passphrase"]) == 0
    assert readable(Path("key-plain"), secrets) == set()
    files = {Path(name).name for name, content in tree(Path("key-plain")).items() if content}
    assert files == {
        "key.json",
        "releases.json",
        "network.sealed",
        "generator.json.sealed",
        "weights.sealed",
        "1.sealed",
        "1.f32.sealed",
    }
    assert not Path("key-plain/generators/.killed.partial").exists()
    assert open_key(Path("key-plain"), Path("passphrase")) == before

    others = {name: content for name, content in tree(Path("key-plain")).items() if name != "key.json"}
    Path("new").write_text("a new one\n")
    change = ["passphrase", "key-plain", "--passphrase-file", "passphrase", "--new-passphrase-file", "new"]
    assert main(change) == 0
    with pytest.raises(UserError, match="the passphrase is wrong"):
        open_key(Path("key-plain"), Path("passphrase"))
    assert main(["verify", "R-plain", "--key", "key-plain", "--passphrase-file", "new"]) == 0

    assert main(["passphrase", "key-plain", "--passphrase-file", "new", "--remove"]) == 0
    assert {name: content for name, content in tree(Path("key-plain")).items() if name != "key.json"} == others
    assert read_key(Path("key-plain")) == before
    assert main(["verify", "R-plain", "--key", "key-plain", "--originals", "card"]) == 0
    assert stat.S_IMODE(os.stat("key-plain/key.json").st_mode) == 0o600
    said = capsys.readouterr().out
    assert PASSPHRASE not in said and "a new one\n" not in said


def test_a_passphrase_is_typed_twice(place, monkeypatch, capsys):
    typed = iter(["first one", "second one", "first one", "first one", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda question: next(typed))
    before = tree(Path())
    assert main(["passphrase", "key-plain"]) == 2
    assert "the two passphrases differ" in capsys.readouterr().err
    assert tree(Path()) == before
    assert main(["passphrase", "key-plain"]) == 0
    assert read_key(Path("key-plain"), lambda: "first one") == read_key(Path("key-locked"), lambda: PASSPHRASE)
    assert main(["verify", "R-plain", "--key", "key-plain"]) == 2
    assert "no passphrase was typed" in capsys.readouterr().err


MISTAKES = {
    "wrong": (["verify", "R-locked", "--key", "key-locked", "--passphrase-file", "wrong"], "the passphrase is wrong"),
    "wrong to change it": (
        ["passphrase", "key-locked", "--passphrase-file", "wrong", "--new-passphrase-file", "passphrase"],
        "the passphrase is wrong",
    ),
    "wrong to remove it": (["passphrase", "key-locked", "--passphrase-file", "wrong", "--remove"], "wrong"),
    "wrong to protect": (
        ["protect", "toy.npz", "--out", "new", "--key", "key-locked", *TINY, "--passphrase-file", "wrong"],
        "the passphrase is wrong",
    ),
    "missing": (["train", "R-locked", "--key", "key-locked", "--out", "new"], "give --passphrase-file FILE or set"),
    "missing to export": (["export-key", "key-locked", "--out", "new"], "UGEJAX_PASSPHRASE"),
    "of a key without": (["verify", "R-plain", "--key", "key-plain", "--passphrase-file", "passphrase"], "has no pass"),
    "none to remove": (["passphrase", "key-plain", "--remove"], "--remove: key key-plain has no passphrase"),
    "no terminal": (["passphrase", "key-plain"], "--new-passphrase-file: name the file"),
    "no file": (["verify", "R-locked", "--key", "key-locked", "--passphrase-file", "no"], "--passphrase-file no: "),
    "file of two lines": (
        ["verify", "R-locked", "--key", "key-locked", "--passphrase-file", "key-locked/key.json"],
        "holds no passphrase",
    ),
    "file of no text": (
        ["protect", "toy.npz", "--out", "new", "--key", "K", *TINY, "--passphrase-file", "R-plain/data.npz"],
        "--passphrase-file R-plain/data.npz: cannot be read",
    ),
    "empty file": (["passphrase", "key-plain", "--new-passphrase-file", "/dev/null"], "/dev/null: holds no passphrase"),
    "no key": (["passphrase", "R-plain"], "holds no key.json"),
    "short to set": (["passphrase", "key-plain", "--new-passphrase-file", "short"], "has at least 8 characters"),
    "short to protect": (
        ["protect", "toy.npz", "--out", "new", "--key", "K", *TINY, "--passphrase-file", "short"],
        "has at least 8 characters",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, made, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(made)
    before = tree(made)
    assert main(arguments) == 2
    output = capfd.readouterr()
    assert says in output.err and output.err.count("\n") == 1
    assert output.out == "" and tree(made) == before


DAMAGE = {
    "secret": lambda: change_in("key.json", '"ciphertext": "', '"ciphertext": "00'),
    "salt": lambda: change_in("key.json", '"salt": "', '"salt": "00'),
    "public part": lambda: change_in("key.json", '"num_classes": 3', '"num_classes": 4'),
    "fingerprint": lambda: change_in("key.json", '"fingerprint": "', '"fingerprint": "0'),
    "later version": lambda: change_in("key.json", '"version": 1', '"version": 2'),
    "no hexadecimal": lambda: change_in("key.json", '"nonce": "', '"nonce": "x'),
    "no secret": lambda: change_in("key.json", '"locked_secret"', '"secret"'),
    "key cut off": lambda: cut_off(Path("key-locked/key.json")),
    "a byte of the network": lambda: change_a_byte(Path("key-locked/network.sealed")),
    "network cut off": lambda: cut_off(Path("key-locked/network.sealed")),
    "network gone": lambda: Path("key-locked/network.sealed").unlink(),
    "network of nothing": lambda: Path("key-locked/network.sealed").write_bytes(b""),
    "another's network": lambda: shutil.copy(next(Path("key-locked").rglob("1.sealed")), "key-locked/network.sealed"),
}


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_in(name: str, old: str, new: str) -> None:
    file = Path("key-locked") / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_changed_is_refused(name, place, capfd):
    DAMAGE[name]()
    before = tree(place)
    for arguments in (["train", "R-locked", "--key", "key-locked", "--out", "T"], ["passphrase", "key-locked"]):
        more = ["--new-passphrase-file", "passphrase"] if arguments[0] == "passphrase" else []
        assert main([*arguments, "--passphrase-file", "passphrase", *more]) == 2
        output = capfd.readouterr()
        assert output.err.count("\n") == 1 and "key-locked" in output.err
        assert tree(place) == before


class Killed(BaseException):
    """As the system ends a process: nothing of ours catches it to tidy up."""


def state_of(folder: Path) -> tuple:
    """All that a key folder that can be read holds, whichever of it is encrypted."""
    key = read_key(folder)
    (generator,), (run,) = folder.glob("generators/*"), folder.glob("runs/*")
    steps = StepCheckpoints(run / "noise", seal=seal_of(key) / "runs" / run.name / "noise").steps()
    stored = read_generator(generator, key.image_shape, seal_of(key) / "generators" / generator.name)
    arrays = jax.tree.leaves((build_authorized(key, folder).arrays, stored.state))
    return key, steps, [np.asarray(array).tobytes() for array in arrays]


@pytest.fixture(scope="module")
def before(made) -> tuple:
    """What the key without a passphrase holds, and what nobody shall read of it."""
    return state_of(made / "key-plain"), secrets_of(made / "key-plain")


@pytest.mark.parametrize("after", range(7))
def test_a_kill_between_two_files_loses_nothing(after, before, place, monkeypatch):
    """Network, generator and checkpoint are each written and then removed; key.json is replaced at the end."""
    left, folder, (state, secrets) = [after], Path("key-plain"), before

    def or_killed(function):
        def run(*arguments, **more):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return function(*arguments, **more)

        return run

    assert state[1] == [1]
    with monkeypatch.context() as patch:
        patch.setattr("ugejax.app.files.os.replace", or_killed(os.replace))
        patch.setattr("ugejax.app.checkpoint.shutil.rmtree", or_killed(shutil.rmtree))
        with pytest.raises(Killed):
            main(["passphrase", "key-plain", "--new-passphrase-file", "passphrase"])
    assert left == [0] and not has_passphrase(folder)
    assert state_of(folder) == state
    if after == 3:  # half of it is encrypted: a protection goes on from its checkpoint, with the same bytes
        shutil.rmtree("R-plain")
        monkeypatch.setattr("ugejax.app.protection.epoch_order", lambda *_: pytest.fail("began again"))
        again = protect(place, "plain", "--parametrisation", "generator", "--perturbation-epochs", "1")
        assert main(again) == 0
        assert tree(Path("R-plain")) == tree(Path("R-locked"))
    assert main(["passphrase", "key-plain", "--new-passphrase-file", "passphrase"]) == 0
    assert readable(folder, secrets) == set()
    assert not (folder / "network").exists() and not [*folder.rglob("*.partial")]
    with monkeypatch.context() as patch:
        patch.setattr("ugejax.app.files.os.replace", or_killed(os.replace))  # of which none is left
        with pytest.raises(Killed):
            main(["passphrase", "key-plain", "--passphrase-file", "passphrase", "--new-passphrase-file", "wrong"])
    assert open_key(folder, Path("passphrase")) == state[0]


def test_a_key_that_is_at_work_is_left_alone(place, capsys):
    (run,) = Path("key-plain/runs").iterdir()
    before = tree(place)
    with alone_in(run):
        assert main(["passphrase", "key-plain", "--new-passphrase-file", "passphrase"]) == 2
    assert "another run is at work" in capsys.readouterr().err
    assert tree(place) == before


def test_a_checkpoint_that_was_damaged_before_it_was_encrypted_is_refused(tmp_path):
    array = {"a": np.random.default_rng(0).normal(size=64).astype(np.float32)}
    save_tree(tmp_path / "tree", array)
    (tmp_path / "tree" / "sha256").write_text("0" * 64)
    seal_tree(tmp_path / "tree", SEAL)
    with pytest.raises(UserError, match="not those that were written"):
        restore_tree(tmp_path / "tree", array, SEAL)


def plain_network() -> Path:
    shutil.copytree("key-plain/network", "key-locked/network")
    return Path("key-locked/network")


def plain_network_in_its_place() -> Path:
    Path("key-locked/network.sealed").unlink()
    return plain_network()


def plain_weights() -> Path:
    (locked,), (plain,) = (Path(f"key-{name}/generators").iterdir() for name in ("locked", "plain"))
    (locked / "weights.sealed").unlink()
    return Path(shutil.copytree(plain / "weights", locked / "weights"))


def plain_step() -> Path:
    (locked,), (plain,) = (Path(f"key-{name}/runs").iterdir() for name in ("locked", "plain"))
    (locked / "noise" / "1.sealed").unlink()
    return Path(shutil.copytree(plain / "noise" / "1", locked / "noise" / "1"))


def plain_rows() -> Path:
    (locked,) = Path("key-locked/runs").iterdir()
    (locked / "noise-files").mkdir()
    (locked / "noise-files" / "1.f32").write_bytes(np.zeros(64, np.float32).tobytes())
    return locked / "noise-files" / "1.f32"


def plain_settings() -> Path:
    (plain,), (locked,) = Path("key-plain/generators").iterdir(), Path("key-locked/generators").iterdir()
    return Path(shutil.copy(plain / "generator.json", locked / "generator.json"))


@pytest.mark.parametrize(
    "plant",
    [plain_network, plain_network_in_its_place, plain_weights, plain_settings, plain_step, plain_rows],
    ids=lambda f: f.__name__,
)
def test_of_a_key_with_a_passphrase_nothing_is_taken_that_is_not_encrypted(plant, place, capsys):
    planted, given = plant(), ["--passphrase-file", "passphrase"]
    (generator,), before = Path("key-locked/generators").iterdir(), tree(place)
    commands = [["passphrase", "key-locked", *given, "--new-passphrase-file", "passphrase"],
                ["passphrase", "key-locked", *given, "--remove"]]  # fmt: skip
    if planted.name == "network":
        commands.append(["train", "R-locked", "--key", "key-locked", *given, "--out", "T"])
        commands.append(["verify", "R-locked", "--key", "key-locked", *given])
    elif planted.parent.parent.name == "generators":
        commands.append(["apply", str(generator), "toy.npz", "--out", "A", *given])
    for arguments in commands:
        assert main(arguments) == 2
        assert (
            capsys.readouterr()
            .err.splitlines()[-1]
            .endswith(f"{planted}: is not encrypted, as all of a key with a passphrase is; remove it")
        )
    assert tree(place) == before
    shutil.rmtree("R-locked")
    if planted.parent.name != "noise-files":  # which a generator has none of
        again = protect(place, "locked", "--parametrisation", "generator", "--perturbation-epochs", "1", *given)
        assert main(again) == (0 if planted.parent.parent.name == "generators" else 2)


def test_images_that_another_put_among_those_of_a_cut_off_run_are_not_released(place):
    same = ["--parametrisation", "generator", "--perturbation-epochs", "1", "--passphrase-file", "passphrase"]
    before = tree(place / "R-locked")
    shutil.rmtree("R-locked")
    (work,) = (run for run in Path("key-locked/runs").iterdir() if (run / "noise").is_dir())
    (work / "released").mkdir()
    (work / "released" / f"{0:012d}.u8").write_bytes(bytes(64))
    assert main(protect(place, "locked", *same)) == 0
    assert tree(place / "R-locked") == before


def test_what_a_key_with_a_passphrase_gets_later_is_encrypted(place):
    """Whatever lies in its folder: it follows from key.json alone."""
    secrets, given = secrets_of(Path("key-plain")), ["--passphrase-file", "passphrase"]
    shutil.rmtree("key-locked/runs")
    shutil.rmtree("key-locked/generators")
    shutil.rmtree("R-locked")
    again = protect(place, "locked", "--parametrisation", "generator", "--perturbation-epochs", "1", *given)
    assert main(again) == 0
    assert readable(Path("key-locked"), secrets) == set()
    assert {path.name for path in Path("key-locked").rglob("1*")} == {"1.sealed"}
    assert tree(Path("R-locked")) == tree(Path("R-plain"))


@settings(max_examples=30)
@given(content=st.binary(max_size=50), place=st.integers(0, 10**6))
def test_what_is_sealed_comes_back_and_no_change_is_taken(content, place):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 16)
        file = Path(folder) / "file"
        SEAL.write(file, io.BytesIO(content), chunk=16)
        assert SEAL.read(file) == content
        written = file.read_bytes()
        assert len(written) == 32 + len(content) + 16 * max(1, -(-len(content) // 16))
        place %= len(written)
        changed = bytearray(written)
        changed[place] ^= 1
        first, second = written[32:64], written[64:96]
        for other in (changed, written[:place], written + b"0", written[:32] + second + first + written[96:]):
            if other != written:
                file.write_bytes(other)
                with pytest.raises(UserError, match="is damaged, or of another key"):
                    SEAL.read(file)
        file.write_bytes(written)
        for seal in (SEAL / "1", Seal(bytes(32), SEAL.place)):
            with pytest.raises(UserError, match="is damaged, or of another key"):
                seal.read(file)


def test_the_same_is_never_encrypted_alike(tmp_path):
    for name in ("a", "b"):
        SEAL.write(tmp_path / name, io.BytesIO(bytes(100)))
    a, b = ((tmp_path / name).read_bytes()[16:] for name in ("a", "b"))
    assert all(x != y for x, y in zip((a[:16], a[16:32]), (b[:16], b[16:32]), strict=True))
    first, second = (lock(bytes(16), PASSPHRASE, "f") for _ in range(2))
    assert all(first[name] != second[name] for name in ("salt", "nonce", "ciphertext"))


def test_a_passphrase_is_the_same_on_every_keyboard_and_no_other_text_unlocks():
    locked = lock(b"secret", PASSPHRASE, "fingerprint")
    assert unlock(locked, PASSPHRASE.replace("ä", "a\u0308"), "fingerprint") == b"secret"
    assert unlock(locked, PASSPHRASE + " ", "fingerprint") is None
    assert unlock(locked, PASSPHRASE, "other") is None


def test_a_passphrase_that_is_no_text_is_not_shown(place, monkeypatch, capsys):
    monkeypatch.setenv("UGEJAX_PASSPHRASE", "no\udcff text")
    assert main(["verify", "R-locked", "--key", "key-locked"]) == 2
    error = capsys.readouterr().err
    assert "the passphrase is wrong" in error and "text" not in error
    locked = lock(b"secret", "no\udcff text", "f")
    assert unlock(locked, "no\udcff text", "f") == b"secret"


def test_a_key_with_a_shorter_passphrase_than_a_new_one_may_be_is_opened(monkeypatch):
    with pytest.raises(UserError, match="at least 8 characters"):
        lock(b"secret", "ba\u0308ren 7", "fingerprint")  # of which two are one
    monkeypatch.setattr(module, "LEAST_PASSPHRASE", 1)
    locked = lock(b"secret", "short", "fingerprint")
    monkeypatch.undo()
    monkeypatch.setattr(module, "_SCRYPT", (16, 8, 1))
    assert unlock(locked, "short", "fingerprint") == b"secret"


def test_a_seal_is_neither_printed_nor_pickled():
    assert str(SEAL.secret) not in repr(SEAL)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(SEAL)


def test_encrypted_steps_are_those_of_plain_checkpoints(tmp_path):
    trees = [{"a": jnp.full(3, step), "b": (jnp.zeros((), jnp.int32), [jnp.ones(2)])} for step in range(4)]
    for name, seal in (("plain", None), ("sealed", SEAL)):
        for keep, kept in ((None, [0, 1, 2, 3]), (1, [3])):
            path = tmp_path / f"{name}-{keep}"
            checkpoints = StepCheckpoints(path, keep=keep, seal=seal)
            for step, some in enumerate(trees):
                checkpoints.save(step, some)
            again = StepCheckpoints(path, keep=keep, seal=seal)
            assert again.steps() == kept
            assert jax.tree.all(jax.tree.map(np.array_equal, again.restore(3, trees[0]), trees[3]))
            with pytest.raises(UserError, match="of another network|is damaged"):
                again.restore(3, {"a": jnp.zeros(4), "b": trees[0]["b"]})
    # Where none has to be encrypted, one that is is found, and gives way to a plain one.
    path = tmp_path / "sealed-1"
    checkpoints = StepCheckpoints(path, seal=EITHER)
    assert checkpoints.steps() == [3]
    np.testing.assert_array_equal(checkpoints.restore(3, trees[0])["a"], trees[3]["a"])
    checkpoints.save(4, trees[0])
    assert [file.name for file in path.iterdir()] == ["4"]
    for plain in (path, tmp_path / "plain-1"):  # where each has to be, none that is not is taken
        with pytest.raises(UserError, match="is not encrypted"):
            StepCheckpoints(plain, seal=SEAL).steps()
        with pytest.raises(UserError, match="is not encrypted"):
            StepCheckpoints(plain, seal=SEAL).save(5, trees[0])


def test_noise_of_a_stream_is_encrypted_row_by_row(tmp_path):
    start, labels = np.zeros((2, 4, 4, 1), np.float32), np.arange(6) % 2
    rng = np.random.default_rng(0)
    epochs = [rng.normal(size=(6, 4, 4, 1)).astype(np.float32) for _ in range(2)]
    files = NoiseFiles(tmp_path, start, labels, epoch=0, seal=SEAL)
    for rows in epochs:
        with files.next_epoch():
            for index in (np.array([4, 1]), np.array([5, 0])):
                files.take(NoiseState(jnp.zeros(()), jnp.asarray(rows[index]), ()), index)
        files.advance()
    expected = epochs[1].copy()
    expected[[2, 3]] = 0
    np.testing.assert_array_equal(files[:], expected)
    again = NoiseFiles(tmp_path, start, labels, epoch=2, seal=SEAL)
    np.testing.assert_array_equal(again[np.array([5, 1])], expected[[5, 1]])
    (file,) = tmp_path.iterdir()
    assert file.name == "2.f32.sealed" and epochs[1][5].tobytes() not in file.read_bytes()
    change_a_byte(file)
    with pytest.raises(UserError, match="is damaged"):
        NoiseFiles(tmp_path, start, labels, epoch=2, seal=SEAL)[:]

    # Rows that are there are encrypted into the same form.
    file.unlink()
    (tmp_path / "2.f32").write_bytes(epochs[0].tobytes())
    with pytest.raises(UserError, match="is not encrypted"):
        NoiseFiles(tmp_path, start, labels, epoch=2, seal=SEAL)
    np.testing.assert_array_equal(NoiseFiles(tmp_path, start, labels, epoch=2, seal=EITHER)[:], epochs[0])
    seal_rows(tmp_path, (4, 4, 1), SEAL)
    assert [file.name for file in tmp_path.iterdir()] == ["2.f32.sealed"]
    np.testing.assert_array_equal(NoiseFiles(tmp_path, start, labels, epoch=2, seal=SEAL)[:], epochs[0])
