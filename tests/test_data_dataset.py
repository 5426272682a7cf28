"""Data sets, their checks and stratified subsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugejax.data import Dataset, check_dataset, stratified_subset
from ugejax.errors import UserError


def make_dataset(**changes) -> Dataset:
    fields = {
        "images": np.zeros((4, 2, 2, 3), np.uint8),
        "labels": np.array([0, 1, 0, 1], np.int32),
        "class_names": ("cat", "dog"),
    }
    return Dataset(**{**fields, **changes})


def test_a_sound_dataset_passes():
    check_dataset(make_dataset(), "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 3), np.float32)}, "uint8"),
        ({"images": np.zeros((4, 2, 2), np.uint8)}, "uint8"),
        ({"images": np.zeros((4, 2, 2, 4), np.uint8)}, "1 or 3"),
        ({"images": np.zeros((4, 0, 2, 3), np.uint8)}, "not empty"),
        ({"images": np.zeros((3, 2, 2, 3), np.uint8)}, "3 images, but labels of shape \\[4\\]"),
        ({"labels": np.array([0.0, 1, 0, 1])}, "integers"),
        ({"labels": np.array([[0], [1], [0], [1]])}, "shape \\[4, 1\\]"),
        ({"labels": np.array([0, 1, 2, 1])}, "\\[0, 1\\]"),
        ({"labels": np.array([0, 1, -1, 1])}, "\\[0, 1\\]"),
        ({"labels": np.zeros(4, np.int32), "class_names": ("cat",)}, "only one class"),
        ({"labels": np.zeros(4, np.int32)}, "no image of class 'dog'"),
        ({"class_names": ("cat", "cat")}, "each given once"),
        ({"class_names": ("cat", "")}, "non-empty"),
    ],
)
def test_a_bad_dataset_is_refused_with_one_line(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        check_dataset(make_dataset(**changes), "here")
    assert str(caught.value).startswith("here: ")
    assert "\n" not in str(caught.value)


labels_and_size = (
    st.lists(st.integers(0, 5), min_size=1, max_size=60)
    .map(np.array)
    .flatmap(lambda labels: st.tuples(st.just(labels), st.integers(len(np.unique(labels)), len(labels))))
)


@given(labels_and_size, st.integers(0, 2**40))
def test_a_subset_is_sorted_complete_and_proportional(labels_and_n, seed):
    labels, n = labels_and_n
    indices = stratified_subset(labels, n, seed)
    assert indices.shape == (n,)
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0 and indices[-1] < len(labels)
    counts, chosen = np.bincount(labels, minlength=6), np.bincount(labels[indices], minlength=6)
    assert ((chosen >= 1) == (counts >= 1)).all()
    shares = n * counts / len(labels)
    # A class may miss its share by more than the rounding only to let each rare class have its one.
    lifted = int(np.ceil(np.maximum(0, np.where(counts > 0, 1, 0) - shares).sum()))
    assert (chosen < np.maximum(shares, 1) + 1 + 1e-9).all()
    assert (chosen > shares - 1 - lifted - 1e-9).all()
    np.testing.assert_array_equal(indices, stratified_subset(labels, n, seed))


def test_shares_are_exact_where_they_can_be():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    assert np.bincount(labels[stratified_subset(labels, 20, 7)]).tolist() == [12, 6, 2]


def test_rare_classes_keep_one():
    labels = np.repeat([0, 1, 2], [98, 1, 1])
    assert np.bincount(labels[stratified_subset(labels, 4, 0)]).tolist() == [2, 1, 1]


def test_seeds_give_different_subsets_and_every_member_is_drawn_alike():
    labels = np.repeat([0, 1], 10)
    drawn = np.zeros(20)
    for seed in range(400):
        drawn[stratified_subset(labels, 10, seed)] += 1
    # Binomial(400, 1/2): five standard deviations are 50.
    assert (np.abs(drawn - 200) < 50).all()


def test_the_draw_stays_what_it_was_when_releases_were_made_with_it():
    assert stratified_subset(np.repeat([0, 1, 2], 10), 6, 42).tolist() == [4, 8, 11, 12, 22, 26]


@pytest.mark.parametrize(
    ("n", "seed", "message"), [(5, 0, "only 4"), (1, 0, "2 classes"), (0, 0, "2 classes"), (2, -1, "seed")]
)
def test_impossible_subsets_are_refused(n, seed, message):
    with pytest.raises(UserError, match=message):
        stratified_subset(np.array([0, 0, 1, 1]), n, seed)
