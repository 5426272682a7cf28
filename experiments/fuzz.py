"""Feed damaged files to every reader of files from others, and of key folders: each must read or refuse them in a line.

Command:
    python -m experiments.fuzz --out runs/fuzz [--seconds 3600] [--seed 0]

Time: what --seconds says, on one CPU core.

Expect: no finding. A finding is any other exception than UserError, a message of several lines, a reading that takes
more than five seconds of a core or that raises the process's memory by more than 256 MiB; its file is kept in the
folder. Should the process die, `last` there is the file that killed it.
"""

import argparse
import io
import random
import re
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ugejax.app.checkpoint import StepCheckpoints, seal_tree
from ugejax.app.exchange import EXCHANGE_FORMS, Exported, read_labels
from ugejax.app.keys import build_authorized, read_key, seal_of, write_key
from ugejax.app.release import read_release, verify_release, write_release
from ugejax.app.release.read import read_card, read_data, read_manifest
from ugejax.app.seal import Seal
from ugejax.app.stored_generator import StoredGenerator, read_generator, write_generator
from ugejax.authorized import new_key
from ugejax.data import Dataset, Source, Splits, load
from ugejax.data.image_file import decode_image
from ugejax.errors import UserError
from ugejax.training import Recipe
from ugejax.uge import Method, parametrise

MOST_SECONDS = 5
MOST_BYTES = 2**28
# What lengths and sizes look like when they are meant to do harm.
HOSTILE = [value.to_bytes(size, order) for size in (1, 2, 4, 8) for order in ("little", "big")
           for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)]  # fmt: skip

Read = Callable[[Path], object]


def splits() -> Splits:
    """Twelve originals of three classes."""
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
    return Splits(Dataset(images, np.arange(12, dtype=np.int32) % 3, ("a", "b", "c")), None, np.arange(12), 12)


def pictures() -> list[tuple[str, bytes]]:
    """Images of every format and mode that is read, by suffix."""
    rng, found = np.random.default_rng(0), []
    colour = Image.fromarray(rng.integers(0, 256, (24, 20, 4)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, mode, options in (
        ("png", "RGB", {"exif": exif}), ("png", "RGBA", {}), ("png", "P", {"transparency": 1}), ("png", "1", {}),
        ("png", "I;16", {}), ("png", "LA", {}), ("jpeg", "RGB", {"exif": exif, "progressive": True}),
        ("jpeg", "CMYK", {}), ("jpeg", "L", {"optimize": True}), ("webp", "RGB", {"lossless": True}),
        ("webp", "RGBA", {"quality": 50}), ("bmp", "RGB", {}), ("bmp", "P", {}), ("bmp", "1", {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        colour.convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, suffix, **options)
        found.append((suffix, buffer.getvalue()))
    return found


def targets(folder: Path) -> list[tuple[str, Path, bytes, Read]]:
    """For each sound file its name, where a damaged one has to lie, its bytes, and what reads it."""
    found: list[tuple[str, Path, bytes, Read]] = []
    for number, (suffix, content) in enumerate(pictures()):
        path = folder / f"{number}.{suffix}"
        found.append((path.name, path, content, lambda p: decode_image(p, where=str(p), image_size=16)))
    sound = splits()
    train = sound.train
    levels = np.random.default_rng(1).integers(-8, 9, (3, *train.images.shape[1:]))[train.labels]
    images = np.clip(train.images + levels, 1, 254).astype(np.uint8)
    originals = np.clip(images - levels, 0, 255).astype(np.uint8)
    for kind, form in EXCHANGE_FORMS.items():
        place = folder / kind
        form.write(place, Exported(images, train.labels, train.class_names, originals if form.noise else None))
        for file in [place] if place.is_file() else sorted(place.rglob("*.*"))[:4]:
            found.append(
                (f"{kind} {file.name}", file, file.read_bytes(), lambda _, f=form, p=place: f.read(str(p), sound))
            )
    np.savez_compressed(folder / "set.npz", data=images, targets=train.labels, class_names=np.array(["a", "b", "c"]))
    np.save(folder / "images.npy", images / 255)
    np.save(folder / "labels.npy", train.labels)
    (folder / "labels.csv").write_text("index,label\n" + "".join(f"{i},{i % 3}\n" for i in range(12)))
    for name in ("set.npz", "images.npy", "labels.npy"):
        source = str(folder / name) if name == "set.npz" else f"{folder}/images.npy,{folder}/labels.npy"
        found.append((name, folder / name, (folder / name).read_bytes(), lambda _, s=source: load(Source(s))))
    found.append(
        ("labels.csv", folder / "labels.csv", (folder / "labels.csv").read_bytes(), lambda p: read_labels(p, sound))
    )
    release = folder / "release"
    write_release(
        release, images=images, labels=train.labels, class_names=train.class_names, originals=train.images, card={}
    )
    readers: dict[str, Read] = {"card.json": read_card, "data.npz": read_data, "manifest.csv": read_manifest}
    for name, read in readers.items():

        def both(path: Path, read: Read = read) -> None:
            # The hashes refuse what is changed; whoever forges a file forges its hash as well.
            try:
                read_release(path.parent)
            except UserError:
                read(path.parent)
            finally:
                verify_release(path.parent)

        found.append((f"release {name}", release / name, (release / name).read_bytes(), both))
    return found


def key_targets(folder: Path) -> list[tuple[str, Path, bytes, Read]]:
    """The files of a key folder, plain and encrypted, with Orbax's and TensorStore's own; see `targets`."""
    found: list[tuple[str, Path, bytes, Read]] = []
    key = new_key(
        b"fuzz", form="keyed-linear", network="mlp", image_shape=(4, 4, 1), num_classes=2, step=None,
        recipe=Recipe(epochs=1), from_seed=True,
    )  # fmt: skip
    network = build_authorized(key)
    state = {"step": jnp.zeros((), jnp.int32), "noise": jnp.ones((2, 4, 4, 1))}
    method = Method(parametrisation="generator")
    texture = jnp.zeros((2, 4, 4, 1))
    trained = parametrise(method, key.image_shape).start(jax.random.key(0), texture, jnp.zeros(0, jnp.int32))
    stored = StoredGenerator(method, ("a", "b"), key.fingerprint, trained)

    def read(place: Path, seal: Seal | None) -> None:
        again = read_key(place)
        build_authorized(again, place)
        steps = StepCheckpoints(place / "steps", keep=None, seal=seal and seal / "steps")
        if found := steps.steps():
            steps.restore(found[-1], state)
        read_generator(place / "generators" / "g", key.image_shape, seal and seal / "generators" / "g")

    for name, seal in (("key", None), ("locked", seal_of(replace(key, locked=True)))):
        place = folder / name
        write_key(place, key, network.arrays)
        if seal is not None:
            seal_tree(place / "network", seal / "network")
        StepCheckpoints(place / "steps", keep=None, seal=seal and seal / "steps").save(1, state)
        write_generator(place / "generators" / "g", stored, seal and seal / "generators" / "g")
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            found.append(
                (f"{name} {file.relative_to(place)}", file, file.read_bytes(), lambda _, p=place, s=seal: read(p, s))
            )
    return found


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, inserted, repeated or cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                hostile = rng.choice(HOSTILE)
                changed[at : at + len(hostile)] = hostile
            case 2:
                changed[at:at] = rng.choice(HOSTILE)
            case 3:
                part = changed[at : at + rng.randrange(1, 64)]
                changed[at:at] = part * rng.choice((1, 1, 100))
            case 4:
                del changed[at : at + rng.randrange(1, 64)]
            case 5:
                changed[at : at + 1] = bytes([changed[at] ^ 1 << rng.randrange(8)]) if at < len(changed) else b""
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1 else changed)


def complaint(read: Read, path: Path, tries: int = 2) -> str | None:
    """What is wrong with how a file is read; None for nothing. It is slow only if it is so every time."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        read(path)
    except UserError as error:
        if "\n" in str(error):
            return f"several lines: {error}"
    except Exception:  # a reader must say what is wrong by a UserError: whatever else it raises is the finding
        return traceback.format_exc()
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if seconds > MOST_SECONDS and tries > 1:
        return complaint(read, path, tries - 1)
    if seconds > MOST_SECONDS or grown > MOST_BYTES:
        return f"{seconds:.1f} s, {grown >> 20} MiB"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make, for findings; must not exist")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    rng, readings, findings = random.Random(arguments.seed), 0, 0
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        chosen = targets(Path(folder)) + key_targets(Path(folder))
        for _, path, content, read in chosen:
            path.write_bytes(content)
            read(path)  # the sound file is read, or nothing that follows means anything
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            name, path, content, read = rng.choice(chosen)
            bad = damaged(content, rng)
            path.write_bytes(bad)
            (arguments.out / "last").write_bytes(bad)
            if (said := complaint(read, path)) is not None:
                findings += 1
                (arguments.out / f"{findings}-{re.sub('[ /]', '-', name)}").write_bytes(bad)
                print(f"finding {findings}, {name}: {said}", flush=True)
            path.write_bytes(content)
            readings += 1
    (arguments.out / "last").unlink(missing_ok=True)
    print(f"{readings} damaged files of {len(chosen)} kinds, seed {arguments.seed}: {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
