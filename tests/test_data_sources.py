"""Sources that are not image files: digits, .npz and .npy; and how sources are split."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from ugejax.data import Source, load, load_all
from ugejax.errors import UserError

LABELS = np.arange(40) % 4


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3)).astype(np.uint8)


def refusal(source: Source) -> str:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_digits_are_scikit_learns_on_the_8_bit_grid_with_a_stratified_fifth_held_out():
    splits = load(Source("digits"))
    assert splits.test is not None
    assert splits.train.images.shape == (1438, 8, 8, 1)
    assert splits.test.images.shape == (359, 8, 8, 1)
    assert splits.train.images.dtype == np.uint8 and splits.train.labels.dtype == np.int32
    assert splits.train.class_names == tuple("0123456789")
    originals, targets = load_digits(return_X_y=True)
    assert rows(splits.train.images) | rows(splits.test.images) == rows(np.rint(originals * 255 / 16).astype(np.uint8))
    shares = np.bincount(splits.test.labels) / np.bincount(targets)
    assert (abs(shares - 0.2) < 0.01).all()


def test_subsets_of_digits_are_seeded_and_disjoint():
    first, again, other = (load(Source("digits", n_train=100, n_test=50, seed=seed)) for seed in (1, 1, 2))
    assert first.test is not None and again.test is not None and other.test is not None
    assert len(first.train.images) == 100 and len(first.test.images) == 50
    np.testing.assert_array_equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert rows(first.train.images) != rows(other.train.images)
    assert not rows(first.train.images) & rows(first.test.images)
    np.testing.assert_array_equal(load_all(Source("digits", n_test=50, seed=1)).images, first.test.images)


def test_npz_is_read_as_it_is(tmp_path: Path, images):
    path = tmp_path / "set.npz"
    np.savez(path, data=images, targets=LABELS, class_names=np.array(["a", "b", "c", "d"]))
    splits = load(Source(str(path)))
    assert splits.test is None
    np.testing.assert_array_equal(splits.train.images, images)
    np.testing.assert_array_equal(splits.train.labels, LABELS)
    assert splits.train.class_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(load_all(Source(str(path), n_train=5)).images, images)


@given(n_test=st.integers(4, 30), n_train=st.integers(4, 10), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_what_is_held_out_is_never_trained_on(tmp_path_factory, n_test, n_train, seed):
    path = tmp_path_factory.getbasetemp() / "numbered.npz"
    if not path.exists():
        np.savez(path, data=np.arange(40, dtype=np.uint8).reshape(40, 1, 1), targets=LABELS)
    splits = load(Source(str(path), n_train=n_train, n_test=n_test, seed=seed))
    assert splits.test is not None
    trained, tested = splits.train.images.ravel(), splits.test.images.ravel()
    assert len(trained) == n_train and len(tested) == n_test
    assert not set(trained) & set(tested)
    np.testing.assert_array_equal(splits.train.labels, trained % 4)
    np.testing.assert_array_equal(splits.test.labels, tested % 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_return_to_the_grey_levels_they_came_from(tmp_path: Path, dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(tmp_path / "x.npz", data=(levels / 255).astype(dtype), targets=[0, 1, 0, 1])
    np.testing.assert_array_equal(load(Source(str(tmp_path / "x.npz"))).train.images, levels[..., None])


def test_npy_pair_by_comma_or_in_a_folder(tmp_path: Path, images):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", LABELS)
    by_folder = load(Source(str(tmp_path))).train
    by_comma = load(Source(f"{tmp_path}/images.npy,{tmp_path}/labels.npy")).train
    for dataset in (by_folder, by_comma):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, LABELS)
    assert "IMAGES.npy,LABELS.npy" in refusal(Source(str(tmp_path / "images.npy")))
    (tmp_path / "labels.npy").unlink()
    assert f"{tmp_path}/labels.npy: no such file" in refusal(Source(str(tmp_path)))


def test_labels_may_be_one_hot(tmp_path: Path, images):
    np.save(tmp_path / "images.npy", images)
    for dtype in (np.float32, np.uint8, bool):
        np.save(tmp_path / "labels.npy", np.eye(4, dtype=dtype)[LABELS])
        np.testing.assert_array_equal(load(Source(str(tmp_path))).train.labels, LABELS)
    for labels in (np.eye(4)[LABELS] * 0.5, np.eye(4)[LABELS] * 0, np.ones((40, 1)) * 0.5, np.ones((40, 2))):
        np.save(tmp_path / "labels.npy", labels)
        assert "as many integer labels" in refusal(Source(str(tmp_path)))


@pytest.mark.parametrize(("n_train", "n_test"), [(None, None), (10, None), (None, 8), (10, 8)])
def test_where_the_train_images_lie_is_told(tmp_path: Path, images, n_train, n_test):
    np.savez(tmp_path / "x.npz", data=images, targets=LABELS)
    splits = load(Source(str(tmp_path / "x.npz"), n_train=n_train, n_test=n_test, seed=1))
    assert splits.n_available == 40
    np.testing.assert_array_equal(splits.train.images, images[splits.train_indices])
    assert (np.diff(splits.train_indices) > 0).all()


def test_image_size_scales_and_crops_but_leaves_that_size_alone(tmp_path: Path, images):
    np.savez(tmp_path / "x.npz", data=images[:, :5, :5], targets=LABELS)
    np.testing.assert_array_equal(load(Source(str(tmp_path / "x.npz"), image_size=5)).train.images, images[:, :5, :5])
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8), (4, 8, 24))
    np.savez(tmp_path / "ramp.npz", data=ramp, targets=[0, 1, 0, 1])
    centre = load(Source(str(tmp_path / "ramp.npz"), image_size=4)).train.images
    assert centre.shape == (4, 4, 4, 1)
    # Columns 8 to 15 in pairs; away from the cut the mean of each pair.
    np.testing.assert_allclose(centre[0, 1, :, 0], [85, 105, 125, 145], atol=2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((4, 2, 2), np.uint8)}, "no array 'targets'"),
        ({"targets": [0, 1]}, "no array 'data'"),
        ({"data": np.zeros((4, 3, 8, 8), np.uint8), "targets": [0, 1, 0, 1]}, "channels first"),
        ({"data": np.zeros((4, 8, 8, 4), np.uint8), "targets": [0, 1, 0, 1]}, "[4, 8, 8, 4]"),
        ({"data": np.zeros((4, 8), np.uint8), "targets": [0, 1, 0, 1]}, "[4, 8]"),
        ({"data": np.zeros((0, 8, 8), np.uint8), "targets": np.zeros(0, int)}, "not empty"),
        ({"data": np.zeros((4, 8, 8), np.int64), "targets": [0, 1, 0, 1]}, "int64"),
        ({"data": np.full((4, 8, 8), np.nan), "targets": [0, 1, 0, 1]}, "NaN or infinity"),
        ({"data": np.full((4, 8, 8), np.inf), "targets": [0, 1, 0, 1]}, "NaN or infinity"),
        ({"data": np.full((4, 8, 8), 1.5), "targets": [0, 1, 0, 1]}, "range from 1.5 to 1.5"),
        ({"data": np.full((4, 8, 8), -0.5), "targets": [0, 1, 0, 1]}, "range from -0.5"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 1, 0]}, "as many integer labels"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0.5, 1, 0, 1]}, "float64"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [np.inf, 1, 0, 1]}, "float64"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 0, 0, 0]}, "only one class"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 2, 0, 2]}, "no image of class '1'"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 2**40, 0, 1]}, "must lie in [0, 3]"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, -1, 0, 1]}, "must lie in [0, 1]"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 1, 0, 1], "class_names": ["a"]}, "must lie in [0, 0]"),
        ({"data": np.zeros((4, 2, 2), np.uint8), "targets": [0, 1, 0, 1], "class_names": [1, 2]}, "class_names"),
        ({"data": np.array([None] * 4), "targets": [0, 1, 0, 1]}, "Python objects"),
    ],
)
def test_bad_arrays_are_refused_naming_the_file(tmp_path: Path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, allow_pickle=True, **arrays)
    told = refusal(Source(str(path)))
    assert str(path) in told and message in told


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_npz_never_gives_a_traceback(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez(path, data=np.zeros((4, 2, 2), np.uint8), targets=[0, 1, 0, 1])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        load(Source(str(path)))
    except UserError as error:
        assert str(path) in str(error)


def test_files_that_are_not_what_their_name_says(tmp_path: Path):
    (tmp_path / "text.npz").write_text("hello")
    assert "not a whole NumPy file" in refusal(Source(str(tmp_path / "text.npz")))
    (tmp_path / "text.npy").write_text("hello")
    assert "not a whole NumPy file" in refusal(Source(f"{tmp_path}/text.npy,{tmp_path}/text.npy"))
    with open(tmp_path / "single.npz", "wb") as file:
        np.save(file, np.zeros(3))
    assert "single array" in refusal(Source(str(tmp_path / "single.npz")))
    np.savez(tmp_path / "archive.npz", data=np.zeros(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    assert "an .npz archive" in refusal(Source(f"{tmp_path}/archive.npy,{tmp_path}/archive.npy"))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no array 'data'" in refusal(Source(str(tmp_path / "other.npz")))
    (tmp_path / "notes.txt").write_text("hello")
    assert "not a readable kind of file" in refusal(Source(str(tmp_path / "notes.txt")))
    assert "no such file or folder" in refusal(Source(str(tmp_path / "missing.npz")))


def test_a_file_without_permission(tmp_path: Path, monkeypatch, images):
    np.savez(tmp_path / "x.npz", data=images, targets=LABELS)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ugejax.data.arrays.open", refuse, raising=False)
    assert refusal(Source(str(tmp_path / "x.npz"))) == f"{tmp_path}/x.npz: no permission to read it"


def test_subsets_that_cannot_be(tmp_path: Path, images):
    path = str(tmp_path / "x.npz")
    np.savez(path, data=images, targets=LABELS)
    assert "only 40 are there" in refusal(Source(path, n_train=41))
    assert "without its 8 test images: 33 images were asked for, but only 32" in refusal(
        Source(path, n_train=33, n_test=8)
    )
    assert "cover 4 classes" in refusal(Source(path, n_train=3))
    assert "without its 40 test images: no images" in refusal(Source(path, n_test=40))
    np.savez(path, data=images[:5], targets=[0, 0, 0, 0, 1])
    assert "without its 2 test images: no image of class '1'" in refusal(Source(path, n_test=2))


def test_a_source_is_told_from_a_folder_and_found_again(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep", target_is_directory=True)
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    photos, pair = str(tmp_path / "photos"), f"{tmp_path}/x.npy,{tmp_path}/releases/y.npy"
    # A file of a cache is known by the name of its link, which says what kind it is.
    (tmp_path / "link" / "set.npz").symlink_to(tmp_path / "disk" / "abc")
    linked = Source(str(tmp_path / "link" / "set.npz"))
    assert linked.seen_from(tmp_path / "R").found_from(tmp_path / "R").name.endswith("/disk/deep/set.npz")
    # Of another disk the release says nothing.
    assert Source("/owner/clients/photos").seen_from(Path("/public/R")) == Source("./photos")
    for folder in (tmp_path / "releases" / "R", tmp_path / "link" / "R"):
        for source in (Source(photos, str(tmp_path), 10), Source(pair), Source("cifar10", str(tmp_path / "tfds"))):
            told = source.seen_from(folder)
            assert str(tmp_path) not in str(told)
            assert told.found_from(folder) == source
            assert told.title == source.title
    assert Source(photos).seen_from(tmp_path / "releases" / "R") == Source("../../photos")
    assert Source(photos).seen_from(tmp_path) == Source("./photos")
    assert (Source(photos).title, Source(pair).title) == ("photos", "x.npy,y.npy")
    for name in ("digits", "imagenet2012_subset/1pct:5.0.0", "cifar10"):
        source = Source(name)
        assert source.seen_from(tmp_path) == source.found_from(tmp_path) == source
        assert source.title == name


def test_what_is_a_name_of_a_data_set_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "cifar10", "cats,dogs", "cats"):
        (tmp_path / name).mkdir()
    assert Source("digits").absolute() == Source("digits")
    assert Source("cifar10", ".").absolute() == Source("cifar10", str(tmp_path))
    assert Source("cifar10").absolute() == Source(str(tmp_path / "cifar10"))
    assert Source("cats,dogs").absolute() == Source(str(tmp_path / "cats,dogs"))
    assert Source("mnist").absolute() == Source("mnist")
    with pytest.raises(UserError, match="there is no such user"):
        load(Source("~nobody-of-this-name/photos"))


def test_sources_go_through_json():
    source = Source("cifar10", "data", 10, 20, 3, 32)
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source


@pytest.mark.parametrize(
    "fields",
    [
        {},
        [],
        {"name": ""},
        {"name": 3},
        {"name": "digits", "colour": 1},
        {"name": "digits", "n_train": 0},
        {"name": "digits", "n_test": "5"},
        {"name": "digits", "seed": None},
        {"name": "digits", "seed": -1},
        {"name": "digits", "seed": True},
        {"name": "digits", "image_size": 1.5},
        {"name": "digits", "data_dir": 1},
    ],
)
def test_bad_source_fields_are_refused(fields):
    with pytest.raises(UserError):
        Source.from_json(fields)
