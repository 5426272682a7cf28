"""What README shows is short, is there, and runs as it stands."""

import re
import shlex
from pathlib import Path

from folder_examples import write_images

from ugejax.app.cli import main

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
# What keeps the commands within seconds; later options win.
SMALLER = {
    "protect": ["--image-size", "8", "--n-test", "6", "--network", "mlp", "--seed", "0"],
    "evaluate": ["--epochs", "1", "--hackers", "mlp"],
    "train": ["--epochs", "1"],
}


def test_it_is_read_in_two_minutes():
    """Six hundred words, counted as `wc -w` does; one picture, one table of results, three limits."""
    assert len(TEXT.split()) <= 600
    assert re.findall(r"!\[[^\]]+\]\((\S+)\)", TEXT) == ["docs/cifar10-images.png"]
    assert re.findall(r"<!-- table ([\w-]+) -->", TEXT) == ["who-gets-what"]
    (limits,) = re.findall(r"## Three limits\n(.*?)\n## ", TEXT, re.DOTALL)
    assert re.findall(r"^(\d)\. \*\*", limits, re.MULTILINE) == ["1", "2", "3"]


def test_its_python_runs():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 12
    exec(block, namespace := {})  # asserts itself that the partner sees no difference and others do
    assert namespace["released"].shape == namespace["images"].shape


def test_its_commands_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "photos", *(f"{name}/{index}.png" for name in ("cat", "dog", "owl") for index in range(10)))
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^\$ ugejax (.*)$", TEXT, re.MULTILINE)]
    assert [command[0] for command in commands] == ["protect", "evaluate", "train"]
    for command in commands:
        assert main([*command, *SMALLER[command[0]]]) == 0, capfd.readouterr().err
    for name in ("release/card.json", "key/key.json", "evaluation/results.json", "partner/results.json"):
        assert Path(name).is_file()
