"""Random folders of images: every image is in the release or told of, and a class is what a person would call one."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from folder_examples import pixels, write_files
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ugejax.data import Source, survey
from ugejax.data.sources import open_parts
from ugejax.errors import UserError

# Names that a person gives to a class, and those that he does not.
CLASSES = ["cat", "Cat", "dog", "caf\u00e9", "cafe\u0301", "car 2", "n01443537"]
SPLITS = ["train", "Training", "TEST", "val", "valid", "validation", "eval"]
SYSTEM = ["@eaDir", ".@__thumb", "$RECYCLE.BIN", "lost+found", ".ipynb_checkpoints", "__MACOSX", ".hidden"]
GENERIC = ["images", "labels"]
READ = ["1.png", "2.JPG", "3.gif", "4.tif", "5.jfif", "without"]
UNREAD = ["6.heic", "7.svg"]
OTHER = ["notes.txt", "Thumbs.db", "clip.mp4", ".8.png", "9.png.bak"]

ENCODED = {}


def encoded(name: str) -> bytes:
    """The bytes of an image for a file of this name, each of other pixels."""
    if name not in ENCODED:
        with tempfile.TemporaryFile() as file:
            kind = {"gif": "GIF", "tif": "TIFF", "JPG": "JPEG", "jfif": "JPEG"}.get(name.rsplit(".", 1)[-1], "PNG")
            Image.fromarray(pixels(4, 4, 3, seed=len(ENCODED))).save(file, kind)
            file.seek(0)
            ENCODED[name] = file.read()
    return ENCODED[name]


files = st.lists(st.sampled_from(READ * 3 + UNREAD + OTHER), max_size=3, unique=True)
folder_names = st.sampled_from(CLASSES * 2 + SPLITS + SYSTEM + GENERIC)


@st.composite
def trees(draw, depth: int = 3) -> dict:
    """Names of files with None, and names of folders with what is in them."""
    tree: dict = dict.fromkeys(draw(files if depth < 3 else st.lists(st.sampled_from(READ + OTHER), max_size=1)))
    if depth:
        for name in draw(st.lists(folder_names, max_size=4, unique=True)):
            tree[name] = draw(trees(depth - 1))
    return tree


def write(root: Path, tree: dict) -> None:
    root.mkdir()
    for name, content in tree.items():
        if content is not None:
            write(root / name, content)
        elif name in (*READ, ".8.png", "9.png.bak"):
            (root / name).write_bytes(encoded(name))
        else:
            write_files(root, name)


def is_image(path: Path) -> bool:
    return path.is_file() and path.name in (*READ, *UNREAD, ".8.png", "9.png.bak")


@given(tree=trees())
@example({"Train": {"cat": {"1.png": None}, "dog": {"1.png": None}}, "TEST": {"cat": {"1.png": None}}})
@example({"cat": {"1.png": None, "6.heic": None}, "dog": {"1.png": None, "@eaDir": {"1.png": None}}, "without": None})
@example({"train": {"cat": {"1.png": None}, "dog": {"2.JPG": None}}, "val": {"1.png": None}, "images": {"1.png": None}})
@example({"cat": {}, "Cat": {}, "train": {"cat": {"1.png": None}, "train": {"1.png": None}}})
@settings(max_examples=100, deadline=None)
def test_every_image_is_taken_or_told_of_and_every_class_is_one(tree):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        write(root, tree)
        source = Source(str(root), skip_unreadable=True)
        try:
            chosen = open_parts(source)
            seen = survey(source, quick=True)
        except UserError as error:
            assert str(root) in str(error) and "\n" not in str(error)
            return
        account = chosen.account
        taken = len(chosen.train.labels) + (0 if chosen.test is None else len(chosen.test.labels))
        assert taken + account.unprotected == sum(map(is_image, root.rglob("*")))
        assert seen.account.unprotected == account.unprotected
        # A class has the name of a folder that people made for it. One that is named like a split or for what is in it
        # is no class, unless images lie right in it and no train images are beside it.
        for name in chosen.train.class_names:
            assert name not in SYSTEM
            if name in SPLITS:
                assert not account.splits
                others = [other for other in chosen.train.class_names if other != name]
                assert not {*others} & {*SPLITS} and (len(others) == 1 or name.lower() in ("train", "training"))
            if name in SPLITS + GENERIC:
                assert any(f"the folder {name} is taken for a class" in line for line in account.warnings)
        assert len({name.casefold() for name in chosen.train.class_names}) == len(chosen.train.class_names) or any(
            "differ in case alone" in line for line in account.warnings
        )
        assert np.bincount(chosen.train.labels, minlength=len(chosen.train.class_names)).min() > 0
        shutil.rmtree(root)
