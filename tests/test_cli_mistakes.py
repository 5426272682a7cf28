"""What a person gets wrong, and what was damaged: one line that names it, and nothing else is changed."""

import re
import shutil
from pathlib import Path

import pytest
from cli_examples import TINY, cut_off, run, tree

from ugejax.app.cli import main

MISTAKES = {
    "unknown source": (["protect", "no-such", "--out", "new", "--key", "new-key", *TINY], "no-such"),
    "eps 8": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "8"], "8/255"),
    "eps no number": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "much"], "much"),
    "form": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--authorized", "plane"], "--authorized"),
    "network": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--network", "cnnn"], "did you mean 'cnn'"),
    "surrogate": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", "mlpp"], "mlpp"),
    "network for larger images": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--network", "vgg16-bn"],
        "too small for VGG: choose another network, or protect with --image-size 32",
    ),
    "surrogate for larger images": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", "mlp,vgg16-bn"],
        "too small for VGG",
    ),
    "hacker for larger images": (["attack", "R", "--out", "new", "--hackers", "mlp,vgg16-bn"], "too small for VGG"),
    "no surrogate": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", ","], "--surrogates"),
    "too many": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--n-train", "99"], "99"),
    "dither": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--authorized", "plain", "--dither-step", "9"],
        "--dither-step",
    ),
    "dither of l2": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--norm", "l2"], "--dither-step"),
    "strength": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--strength", "stronger"], "--strength"),
    "strength in l2": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--norm", "l2", "--strength", "strong"],
        "--eps: has a budget for norm linf alone",
    ),
    "strength of a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "lsp", "--strength", "strong"],
        "--strength: --method lsp has no use for it",
    ),
    "key inside release": (["protect", "toy.npz", "--out", "new", "--key", "new/key", *TINY], "--key new/key"),
    "release inside key": (["protect", "toy.npz", "--out", "new/R", "--key", "new", *TINY], "--key new"),
    "key is no key": (["protect", "toy.npz", "--out", "new", "--key", "toy.npz", *TINY], "no key folder"),
    "key is a release": (["protect", "toy.npz", "--out", "new", "--key", "R", *TINY], "--key R: lies in a release"),
    "other release there": (["protect", "toy.npz", "--out", "other", "--key", "key-R", *TINY], "--out other"),
    "other release there, new key": (["protect", "toy.npz", "--out", "R", "--key", "new-key", *TINY], "--out R"),
    "seed of another key": (["protect", "toy.npz", "--out", "new", "--key", "key-R", *TINY, "--seed", "5"], "--seed 5"),
    "key of another form": (
        ["protect", "toy.npz", "--out", "new", "--key", "key-R", *TINY, "--authorized", "plain"],
        "--key key-R",
    ),
    "wrong key": (["evaluate", "R", "--key", "key-other", "--out", "new"], "--key key-other"),
    "wrong key to train": (["train", "R", "--key", "key-other", "--out", "new"], "--key key-other"),
    "no key to show": (["key", "show", "nowhere"], "--key nowhere: holds no key.json"),
    "no key to send": (["key", "send", "nowhere", "--to", "age1", "--out", "new"], "--key nowhere: holds no key.json"),
    "no key there": (["train", "R", "--key", "nowhere", "--out", "new"], "--key nowhere"),
    "no release there": (["train", "nowhere", "--key", "key-R", "--out", "new"], "nowhere"),
    "no release to evaluate": (["evaluate", "nowhere", "--key", "key-R", "--out", "new"], "nowhere"),
    "no release to verify": (["verify", "nowhere"], "nowhere"),
    "hackers": (["evaluate", "R", "--key", "key-R", "--out", "new", "--hackers", "mlpp"], "--hackers"),
    "countermeasures": (["attack", "R", "--out", "new", "--countermeasures", "jpeg"], "--countermeasures"),
    "weights of no network": (["attack", "R", "--out", "new", "--init", "absent.safetensors"], "NETWORK=FILE"),
    "no weights": (["attack", "R", "--out", "new", "--init", "mlp=absent"], "absent: no such file"),
    "attack with a key": (["attack", "R", "--out", "new", "--hackers", "wrong-key"], "wrong-key"),
    "purifier without a function": (["attack", "R", "--out", "new", "--countermeasures", "purifier"], "--purifier"),
    "purifier's name": (["attack", "R", "--out", "new", "--purifier", "numpy"], "'numpy' names no function"),
    "purifier's module": (["attack", "R", "--out", "new", "--purifier", "no_such:clean"], "No module named 'no_such'"),
    "purifier's function": (["attack", "R", "--out", "new", "--purifier", "numpy:clean"], "has no function clean"),
    "purifier fails": (["attack", "R", "--out", "new", "--purifier", "math:sqrt"], "purifier: failed: TypeError"),
    "purifier's shape": (["attack", "R", "--out", "new", "--purifier", "numpy:ravel"], "purifier: gave an array"),
    "purifier's type": (["attack", "R", "--out", "new", "--purifier", "numpy:float64"], "purifier: gave float64"),
    "purifier's range": (["attack", "R", "--out", "new", "--purifier", "numpy:float32"], "float32 is in [0, 1]"),
    "dp-sgd with batch norm": (
        ["attack", "R", "--out", "new", "--hackers", "r20", "--countermeasures", "dp-sgd"],
        "batch norm leaves r20 none",
    ),
    "other originals": (["evaluate", "R", "--key", "key-R", "--out", "new", "--originals", "digits"], "originals"),
    "no epochs": (["evaluate", "R", "--key", "key-R", "--out", "new", "--epochs", "0"], "--epochs"),
    "no report": (["report", "R"], "results.json"),
    "no generator": (["apply", "key-R", "toy.npz", "--out", "new"], "key-R: no generator; give KEY/generators/NAME"),
    "no command": (["protects"], "protects"),
    "no key for uge": (["protect", "toy.npz", "--out", "new"], "--key"),
    "set with uge": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--set", "rounds=2"], "--set"),
    "period without stripes": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--start", "misaligned", "--period", "4"],
        "--period: is of --start stripes",
    ),
    "method": (["protect", "toy.npz", "--out", "new", "--method", "lsq"], "did you mean 'lsp'"),
    "option of uge with a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "lsp", "--period", "4"],
        "--period: --method lsp has no use for it",
    ),
    "setting of a baseline": (["protect", "toy.npz", "--out", "new", "--method", "em", "--set", "round=2"], "rounds"),
    "eps 8 with a baseline": (["protect", "toy.npz", "--out", "new", "--method", "em", "--eps", "8"], "8/255"),
    "baseline over a release": (["protect", "toy.npz", "--out", "R", "--method", "lsp"], "--out R"),
}

MISTAKES |= {
    "command of no name": ([], "COMMAND"),
    "demo's seed": (["demo", "--out", "new", "--seed", "one"], "--seed"),
    "demo in a file": (["demo", "--out", "toy.npz"], "toy.npz"),
    "option of no name": (["check", "toy.npz", "--imagesize", "8"], "--imagesize 8 (see ugejax check --help)"),
    "a word too many": (["list", "networks", "methods"], "methods"),
    "nothing of that kind": (["list", "optimizers"], "optimizers: nothing of that kind; choose one of networks"),
    "nothing to check": (["check", "no-such"], "no-such"),
    "check in a folder of no name": (["check", "toy.npz", "--out", "toy.npz/F"], "--out toy.npz/F: cannot be written"),
    "a release to protect": (["protect", "R/data.npz", "--out", "new", "--key", "new-key"], "give --again"),
    "a release's folder to protect": (["protect", "R", "--out", "new", "--method", "lsp"], "R: lies in a release"),
    "out where nothing can be": (
        ["protect", "toy.npz", "--out", "/proc/x/R", "--key", "new-key", *TINY],
        "--out /proc/x/R: cannot be written",
    ),
    "key where nothing can be": (
        ["protect", "toy.npz", "--out", "new", "--key", "/proc/x/K", *TINY],
        "--key /proc/x/K: cannot be written",
    ),
    "training where nothing can be": (["train", "R", "--key", "key-R", "--out", "/proc/x/T"], "--out /proc/x/T: "),
    "verify what is no release": (["verify", "."], ".: not a release"),
    "source not named": (["protect", "--out", "new", "--key", "new-key"], "SOURCE"),
    "out not named": (["protect", "toy.npz", "--key", "new-key"], "--out"),
    "a source of no kind": (["protect", "R/card.json", "--out", "new", "--key", "new-key", *TINY], "card.json"),
    "n-test of all": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--n-test", "60"], "no images"),
    "negative eps": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps=-1/255"], "--eps"),
    "eps by nought": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "8/0"], "--eps"),
    "norm": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--norm", "l1"], "--norm"),
    "step size": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--step-size", "nan"], "--step-size"),
    "transforms": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--transforms", "flop"], "--transforms"),
    "log in a folder": (["protect", "toy.npz", "--out", "new", "--key", "new-key", *TINY, "--log-json", "R"], "R: "),
    "log nowhere": (["train", "R", "--key", "key-R", "--out", "new", "--log-json", "no/log"], "no/log: "),
    "scalars in a file": (["attack", "R", "--out", "new", "--tensorboard", "toy.npz"], "toy.npz: cannot be written"),
    "scalars nowhere": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--tensorboard", "no/S"],
        "--tensorboard no/S: cannot be written (No such file",
    ),
    "release in a file": (
        ["protect", "toy.npz", "--out", "toy.npz/R", "--method", "lsp", "--set", "block=2"],
        "toy.npz/R",
    ),
    "key in a file": (["protect", "toy.npz", "--out", "new", "--key", "toy.npz/K", *TINY], "toy.npz/K"),
    "evaluation in a file": (["attack", "R", "--out", "toy.npz", "--hackers", "mlp"], "toy.npz"),
    "cache in a file": (
        ["evaluate", "R", "--key", "key-R", "--out", "new", "--cache", "toy.npz"],
        "toy.npz: cannot be written (File exists); choose another folder with --cache",
    ),
    "cache below a file": (["attack", "R", "--out", "new", "--cache", "toy.npz/C"], "toy.npz/C: cannot be written"),
    "cache in a file, demo": (["demo", "--out", "new", "--cache", "toy.npz"], "toy.npz: cannot be written"),
    "training in a file": (["train", "R", "--key", "key-R", "--out", "toy.npz"], "toy.npz"),
    "key not named": (["train", "R", "--out", "new"], "--key"),
    "test images that are none": (
        ["train", "R", "--key", "key-R", "--out", "new", "--test", "R/card.json"],
        "card.json",
    ),
    "test images of another size": (["train", "R", "--key", "key-R", "--out", "new", "--test", "digits"], "classes"),
    "distillation": (["evaluate", "R", "--key", "key-R", "--out", "new", "--distillation", "soft"], "--distillation"),
    "seed for seeds": (["evaluate", "R", "--key", "key-R", "--out", "new", "--seed", "7"], "arguments: --seed 7"),
    "seeds": (["evaluate", "R", "--key", "key-R", "--out", "new", "--seeds", "0"], "--seeds"),
    "originals nowhere": (["verify", "R", "--originals", "no-such"], "originals: no-such"),
    "key to verify": (["verify", "R", "--key", "R"], "--key R"),
    "batches of nothing": (["train", "R", "--key", "key-R", "--out", "new", "--batch-size", "0"], "--batch-size"),
    "batches of half an image": (["attack", "R", "--out", "new", "--batch-size", "0.5"], "--batch-size"),
    "batches of a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "lsp", "--batch-size", "8"],
        "--batch-size: --method lsp has no use for it",
    ),
    "smaller batches of a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "em", "--auto-batch"],
        "--auto-batch: --method em has no use for it",
    ),
    "passphrase of no key": (["passphrase", "R"], "--key R: holds no key.json"),
    "passphrase not named": (["passphrase", "key-R"], "--new-passphrase-file: name the file"),
    "passphrase that cannot be read": (
        ["passphrase", "key-R", "--new-passphrase-file", "R"],
        "--new-passphrase-file R: cannot be read",
    ),
    "passphrase new and none": (
        ["passphrase", "key-R", "--new-passphrase-file", "R", "--remove"],
        "--remove: not allowed with",
    ),
    "passphrase to remove": (["passphrase", "key-R", "--remove"], "--remove: key key-R has no passphrase"),
    "passphrase that is not asked for": (
        ["train", "R", "--key", "key-R", "--out", "new", "--passphrase-file", "toy.npz"],
        "key key-R has no passphrase",
    ),
    "passphrase for a new key": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", *TINY, "--passphrase-file", "no"],
        "--passphrase-file no: cannot be read (No such file",
    ),
    "report of nothing": (["report", "nowhere"], "nowhere/results.json: not there"),
    "report of a file": (["report", "toy.npz"], "toy.npz"),
    "report of two": (["report", "R", "other"], "other"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, made, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(made)
    before = tree(made)
    try:
        code = main(arguments)
    except SystemExit as exit:  # what the parser refuses
        code = exit.code
    output = capfd.readouterr()
    assert code == 2
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("ugejax")
    assert says in output.err
    assert output.out == ""
    assert tree(made) == before


def test_a_mistake_in_a_process_of_its_own(made, tmp_path):
    done = run("protect", "nothing.npz", "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K"), cache=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "nothing.npz" in done.stderr
    assert not any(tmp_path.iterdir())


def change_text(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def change_one_bit(folder: Path) -> None:
    """Of the largest file, where the values are."""
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


EVALUATE = ["evaluate", "R", "--key", "key-R", "--out", "new", "--hackers", "mlp"]
TRAIN = ["train", "R", "--key", "key-R", "--out", "new"]
DAMAGE = {
    "source cut off": (lambda: cut_off(Path("toy.npz")), ["protect", "toy.npz", "--out", "new", "--method", "lsp"]),
    "images cut off": (lambda: cut_off(Path("R/data.npz")), EVALUATE),
    "images cut off, train": (lambda: cut_off(Path("R/data.npz")), TRAIN),
    "images cut off, attack": (lambda: cut_off(Path("R/data.npz")), ["attack", "R", "--out", "new"]),
    "images cut off, protect": (lambda: cut_off(Path("R/data.npz")), ["protect", "toy.npz", "--out", "R", *TINY]),
    "one bit of the images": (lambda: change_one_bit(Path("R")), EVALUATE),
    "manifest cut off": (lambda: cut_off(Path("R/manifest.csv")), TRAIN),
    "manifest gone": (lambda: Path("R/manifest.csv").unlink(), EVALUATE),
    "card cut off": (lambda: cut_off(Path("R/card.json")), EVALUATE),
    "card without eps": (lambda: change_text(Path("R/card.json"), '"eps"', '"epsilon"'), EVALUATE),
    "card of another source": (lambda: change_text(Path("R/card.json"), "toy.npz", "no.npz"), EVALUATE),
    "key cut off": (lambda: cut_off(Path("key-R/key.json")), TRAIN),
    "key changed": (lambda: change_text(Path("key-R/key.json"), '"form": "keyed-dither"', '"form": "plain"'), TRAIN),
    "key's network gone": (lambda: shutil.rmtree("key-R/network"), TRAIN),
    "one bit of the key's network": (lambda: change_one_bit(Path("key-R/network")), TRAIN),
    "results cut off": (lambda: Path("R/results.json").write_text('{"rows": ['), ["report", "R"]),
    "results of something else": (lambda: Path("R/results.json").write_text('{"rows": 1}'), ["report", "R"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_one_line_that_names_it(name, place, monkeypatch, capfd):
    damage, arguments = DAMAGE[name]
    monkeypatch.chdir(place)
    damage()
    before = tree(place)
    if arguments[0] == "protect" and "--method" not in arguments:
        arguments = [*arguments, "--key", "key-R"]
    assert main(arguments) == 2
    output = capfd.readouterr()
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith(f"ugejax {arguments[0]}: ")
    assert output.out == ""
    assert tree(place) == before


def test_a_training_goes_on_where_its_damaged_checkpoint_was_removed(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    assert main([*TRAIN, "--epochs", "1"]) == 0
    (checkpoint,) = Path("new").glob("checkpoints-*/1")
    results = Path("new/results.json").read_text()
    change_one_bit(checkpoint)
    capfd.readouterr()
    assert main([*TRAIN, "--epochs", "1"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"{checkpoint}: the checkpoint is damaged" in error
    shutil.rmtree(checkpoint)
    assert main([*TRAIN, "--epochs", "1"]) == 0
    assert Path("new/results.json").read_text() == results


def test_results_of_another_command_are_kept(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    attack, train = ["attack", "R", "--hackers", "mlp", "--epochs", "1"], ["train", "R", "--key", "key-R"]
    assert main([*attack, "--out", "A"]) == main([*train, "--out", "T"]) == 0
    Path("B").mkdir()
    Path("B/arena.json").touch()
    Path("N").mkdir()
    Path("N/results.json").write_text("mine")
    before = tree(place)
    capfd.readouterr()
    for command, folder, says in (
        (train, "A", "--out A: holds a results.json of something else"),
        (attack, "T", "--out T: holds a results.json of something else"),
        (["demo"], "T", "--out T: holds a results.json of something else"),
        (attack, "N", "--out N: holds a results.json of something else"),
        (attack, "B", "--out B: holds an arena; name a new folder"),
        (train, "B", "--out B: holds an arena; name a new folder"),
    ):
        assert main([*command, "--out", folder]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert says in error
    assert tree(place) == before
    assert main([*attack, "--out", "A"]) == main([*train, "--out", "T"]) == 0


def test_every_command_is_given_something_wrong():
    from test_cli_arena import MISTAKES as ARENA
    from test_cli_exchange import MISTAKES as EXCHANGE

    from ugejax.app.cli.arguments import build_parser

    given = [arguments for arguments, _ in [*MISTAKES.values(), *EXCHANGE.values()] if arguments]
    commands = set(re.findall(r"^    (\w+) ", build_parser().format_help(), flags=re.MULTILINE))
    assert {"protect", "arena", "report"} <= commands
    assert commands <= {arguments[0] for arguments in given} | {"arena"}
    assert len(given) + len(ARENA) >= 60
