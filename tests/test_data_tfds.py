"""TFDS data sets on the disk."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ugejax.data import Source, load, load_all
from ugejax.errors import UserError


@pytest.fixture
def data_dir(shared_data: Path) -> str:
    if not (shared_data / "tfds" / "cifar100").is_dir():
        pytest.skip(f"{shared_data / 'tfds' / 'cifar100'} is missing")
    return str(shared_data / "tfds")


class Numbered(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Twelve images of the grey levels 0 to 11, which TFDS stores shuffled; `ids` says how they are named."""

    VERSION = tfds.core.Version("1.0.0")
    ids = "train_{:05d}"

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=2)
        features = {"id": tfds.features.Text(), "image": tfds.features.Image(shape=(4, 4, 1)), "label": label}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(12):
            image = io.BytesIO()
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(image, "PNG")
            image.seek(0)
            yield i, {"id": self.ids.format(i, 11 - i), "image": image, "label": i % 2}


def refusal(source: Source) -> str:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cifar100_is_what_tfds_itself_decodes(data_dir: str):
    splits = load(Source("cifar100", data_dir))
    assert splits.test is not None
    assert splits.train.images.shape == (5000, 32, 32, 3) and splits.test.images.shape == (1000, 32, 32, 3)
    assert splits.train.class_names[:3] == ("apple", "aquarium_fish", "baby")
    reference = tfds.data_source("cifar100", split="train", data_dir=data_dir, download=False)
    for index in (0, 17, 2500, 4999):
        np.testing.assert_array_equal(splits.train.images[index], reference[index]["image"])
        assert splits.train.labels[index] == reference[index]["label"]


def test_a_subset_of_cifar10_is_stratified_and_has_the_right_labels(data_dir: str):
    splits = load(Source("cifar10", data_dir, n_train=200, n_test=100, seed=3))
    assert splits.test is not None
    assert np.bincount(splits.train.labels).tolist() == [20] * 10
    assert np.bincount(splits.test.labels).tolist() == [10] * 10
    assert splits.train.class_names[0] == "airplane"
    # Every chosen image is in the official set, with its label.
    reference = tfds.data_source("cifar10", split="test", data_dir=data_dir, download=False)
    official = {item["image"].tobytes(): item["label"] for item in reference}
    assert [official[image.tobytes()] for image in splits.test.images] == splits.test.labels.tolist()


def test_images_come_in_the_order_in_which_the_set_was_published(tmp_path: Path, monkeypatch):
    def levels(ids: str, name: str) -> list[int]:
        monkeypatch.setattr(Numbered, "ids", ids)
        builder = Numbered(data_dir=str(tmp_path / name), file_format="array_record")
        builder.download_and_prepare()
        train = load(Source("numbered", str(tmp_path / name))).train
        np.testing.assert_array_equal(train.labels, train.images[:, 0, 0, 0] % 2)
        return train.images[:, 0, 0, 0].tolist()

    numbered = levels("train_{:05d}", "numbered")
    assert numbered == list(range(12))
    assert levels("train_{1:05d}", "backwards") == list(range(12))[::-1]
    # Names that do not number the images leave them as TFDS stores them.
    stored = levels("photo-{}", "named")
    assert sorted(stored) == numbered != stored
    assert levels("train_1{:05d}", "from another number") == stored


def test_as_a_test_source_the_test_split_is_taken(data_dir: str):
    test = load_all(Source("cifar100", data_dir, n_train=100, n_test=100))
    assert np.bincount(test.labels).tolist() == [1] * 100
    everything = load(Source("cifar100", data_dir)).test
    assert everything is not None
    assert {i.tobytes() for i in test.images} <= {i.tobytes() for i in everything.images}


def test_unknown_names_versions_and_configurations(data_dir: str):
    for name in ("nosuchdataset", "cifar10:9.9.9", "cifar10/nosuchconfig"):
        told = refusal(Source(name, data_dir))
        assert told.startswith(f"TFDS dataset {name!r}: TFDS knows no such dataset")


def test_a_data_set_that_is_not_prepared_is_not_downloaded(tmp_path: Path):
    told = refusal(Source("mnist", str(tmp_path)))
    assert "no prepared train split" in told
    assert "download_and_prepare()" in told and "array_record" in told
    assert not any(tmp_path.iterdir())


def test_damaged_shards_are_named(tmp_path: Path, data_dir: str):
    source = Path(data_dir) / "cifar100" / "3.0.2"
    copy = tmp_path / "cifar100" / "3.0.2"
    copy.mkdir(parents=True)
    for file in source.iterdir():
        if "train" in file.name:
            (copy / file.name).write_bytes(file.read_bytes()[:100_000])
        else:
            (copy / file.name).write_bytes(file.read_bytes())
    assert "missing or damaged; prepare it again" in refusal(Source("cifar100", str(tmp_path)))
    (copy / "dataset_info.json").write_text("{")
    assert str(tmp_path) in refusal(Source("cifar100", str(tmp_path)))


def test_data_sets_of_something_else_are_refused(tmp_path: Path):
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    folder = tmp_path / "words" / "1.0.0"
    folder.mkdir(parents=True)
    features.save_config(folder)
    (folder / "dataset_info.json").write_text(
        '{"name": "words", "version": "1.0.0", "fileFormat": "array_record", "splits": [{"name": "train", '
        '"numBytes": "1", "shardLengths": ["1"], "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}]}'
    )
    assert "not a set of labelled images" in refusal(Source("words", str(tmp_path)))


def test_an_existing_folder_wins_over_a_name_unless_the_data_folder_has_it(tmp_path: Path, data_dir: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar100").mkdir()
    assert "no class folders" in refusal(Source("cifar100"))
    assert len(load(Source("cifar100", data_dir, n_train=100)).train.labels) == 100


def test_nothing_is_logged(data_dir: str):
    code = f"from ugejax.data import Source, load; load(Source('cifar100', {data_dir!r}, n_train=100, n_test=100))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_nothing_but_the_message_comes_of_a_folder_that_is_not_prepared(tmp_path: Path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    code = (
        "from ugejax.data import Source, load\nfrom ugejax.errors import UserError\n"
        f"try: load(Source('mnist', {str(tmp_path)!r}))\nexcept UserError: pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
