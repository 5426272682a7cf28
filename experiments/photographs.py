"""A folder of photographs as people have them: what `check`, `protect` and `verify` say of it, and what they take.

Command:
    python -m experiments.photographs --out runs/photographs

Time: about two minutes on one CPU core; it makes the photographs anew each time.

Expect (record in BUILD_NOTES.md): 560 photographs of four classes in six formats and many sizes, cut out of
scikit-image's sample pictures; `check` tells of those that cannot be read, of thumbnails, duplicates and a split that
is used for nothing; `protect` refuses them until it is told to skip them, and then says how many are not in the
release.
"""

import argparse
import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from experiments.measured import measured
from ugejax.cli import main as ugejax

# Pictures that come with scikit-image, a class for each.
PICTURES = {"astronaut": data.astronaut, "chelsea": data.chelsea, "coffee": data.coffee, "rocket": data.rocket}
ENDINGS = (".jpg", ".JPG", ".png", ".webp", ".tif", ".gif", ".avif")
EACH = 140  # photographs of a class


def write_photographs(root: Path, *, seed: int = 0) -> int:
    """Write photographs of four classes, cut out at random, with what lies in such folders beside; returns how many."""
    draws = np.random.default_rng(seed)
    for name, picture in PICTURES.items():
        pixels = picture()
        for index in range(EACH):
            side = "Train" if index < 100 else "Test" if index < 120 else "val"
            height, width = (int(n) for n in draws.integers(64, min(pixels.shape[:2]) + 1, 2))
            top, left = (int(draws.integers(0, n - k + 1)) for n, k in zip(pixels.shape, (height, width), strict=False))
            cut = Image.fromarray(pixels[top : top + height, left : left + width])
            file = root / side / name / f"IMG_{index:04d}{ENDINGS[index % len(ENDINGS)]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            cut.convert("L").save(file) if index % 10 == 9 else cut.save(file)
    train = root / "Train" / "coffee"
    (train / "IMG_9001.jpg").write_bytes((train / "IMG_0000.jpg").read_bytes()[:2000])  # cut off
    (train / "IMG_9002.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (train / "IMG_9003.jpg").write_bytes((root / "Train" / "rocket" / "IMG_0000.jpg").read_bytes())
    (train / "IMG_9004.png").write_bytes((train / "IMG_0005.gif").read_bytes())
    shutil.copytree(root / "Train" / "rocket", root / "Train" / "@eaDir" / "rocket")
    (root / "Train" / "rocket" / "Thumbs.db").write_bytes(b"thumbnails")
    (root / "readme.txt").write_text("holiday")
    return EACH * len(PICTURES)


def told(*command: str) -> tuple[int, str]:
    """A command's exit code and what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = ugejax(list(command))
    return code, output.getvalue()


def run(out: Path) -> dict:
    """Make the folder, give it to the commands, and return what they said and took."""
    shutil.rmtree(out, ignore_errors=True)
    photographs, release, key = str(out / "photographs"), str(out / "R"), str(out / "K")
    n = write_photographs(out / "photographs")
    options = ["--image-size", "64"]
    protect = ["protect", photographs, "--out", release, "--key", key, *options]
    steps = [
        ["check", photographs],
        ["check", photographs, *options, "--skip-unreadable"],
        protect,
        [*protect, "--skip-unreadable"],
        ["verify", release, "--originals", "card"],
        ["protect", f"{release}/data.npz", "--out", f"{release}-again", "--key", f"{key}-again"],
    ]
    said = []
    for step in steps:
        code, text = told(*step)
        print(f"$ ugejax {' '.join(step)}\n{text}exit code {code}\n")
        said.append({"command": step, "code": code, "said": text})
    took = {
        name: measured(["ugejax", *command])
        for name, command in {
            "list": ["list"],
            "check": ["check", photographs, *options, "--skip-unreadable"],
            "check --quick": ["check", photographs, *options, "--skip-unreadable", "--quick"],
            "protect, warm": [*protect[:3], f"{release}-2", "--key", f"{key}-2", *options, "--skip-unreadable"],
        }.items()
    }
    for name, figures in took.items():
        print(name, {figure: round(value, 2) for figure, value in figures.items()})
    return {"photographs": n, "steps": said, "took": took}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make anew")
    out = parser.parse_args().out
    results = run(out)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
