"""A folder of photographs in mixed formats: what `check`, `protect` and `verify` report, and their cost.

Command:
    python -m experiments.photographs --out runs/photographs [--costs]

Time: about two minutes on one CPU core, with --costs as long again; it makes the photographs anew each time.

Expect (record in docs/results): 560 photographs of four classes in six formats and many sizes, cut out of
scikit-image's sample pictures; `check` tells of those that cannot be read, of thumbnails, duplicates and a split that
is used for nothing; `protect` refuses them until it is told to skip them, and then says how many are not in the
release. It tests the commands themselves.
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
from ugejax.app.cli import main as ugejax

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
    return {"photographs": n, "steps": said}


def times(out: Path) -> dict[str, float]:
    """Processor seconds of commands on small sets, each in a process of its own that finds its programs compiled."""
    small, many = out / "small", out / "many"
    for root, n in ((small, 24), (many, 1000)):
        write_squares(root, n=n, side=32)
    commands = {
        "list": ["list"],
        "check of 1,000 files": ["check", str(many)],
        "check --quick of 1,000 files": ["check", str(many), "--quick"],
        "protect of 24 images": ["protect", str(small), "--out", str(out / "S"), "--key", str(out / "SK")],
    }
    measured(["ugejax", "protect", str(small), "--out", str(out / "S0"), "--key", str(out / "S0K")])
    return {name: measured(["ugejax", *command])["cpu_seconds"] for name, command in commands.items()}


def costs(out: Path) -> list[dict[str, float]]:
    """What `protect` with its defaults takes for few large and for many small images."""
    found = []
    for side, n in ((64, 2000), (512, 60)):
        root = out / f"of-{side}"
        write_squares(root, n=n, side=side)
        figures = measured(["ugejax", "protect", str(root), "--out", f"{root}-R", "--key", f"{root}-K"])
        found.append({"side": side, "images": n, "values": 3 * n * side**2, **figures})
    return found


def write_squares(root: Path, *, n: int, side: int) -> None:
    """Write n PNG files of two classes with a side of so many pixels, cut out of a photograph and scaled."""
    pixels, draws = data.coffee(), np.random.default_rng(0)
    for index in range(n):
        top, left = (int(draws.integers(0, size - 100)) for size in pixels.shape[:2])
        file = root / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top : top + 100, left : left + 100]).resize((side, side)).save(file)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make anew")
    parser.add_argument("--costs", action="store_true", help="also what protect takes for images of other sizes")
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # First, since a process remembers as its own memory what the one had that made it.
    results = {"costs": costs(out) if arguments.costs else [], "times": times(out)}
    results |= run(out)
    for row in results["costs"]:
        print({name: round(value, 1) for name, value in row.items()})
    for name, seconds in results["times"].items():
        print(f"{name}: {seconds:.2f} s of the processor")
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
