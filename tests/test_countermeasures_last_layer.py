"""The last layer that a hacker fits anew: as scikit-learn fits it, whatever the features' scale, of any classes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ugejax.countermeasures.last_layer import fit_last_layer


def heaps(classes: int, *, n: int = 20, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """n points around a place for each class, float32 [classes * n, 4]."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), n)
    points = 2 * rng.normal(size=(classes, 4))[labels] + 0.5 * rng.normal(size=(len(labels), 4))
    return (scale * points).astype(np.float32), labels


def logits(head: dict, features: np.ndarray) -> np.ndarray:
    return features @ head["kernel"] + head["bias"]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_it_answers_as_logistic_regression_on_standardised_features(classes):
    features, labels = heaps(classes)
    head = fit_last_layer(features, labels, classes)
    scaler = StandardScaler().fit(features)
    reference = LogisticRegression(class_weight="balanced", max_iter=1000).fit(scaler.transform(features), labels)
    said = logits(head, features)
    said = np.exp(said - said.max(axis=1, keepdims=True))
    said /= said.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said, reference.predict_proba(scaler.transform(features)), atol=1e-3)
    assert {name: (part.shape, part.dtype) for name, part in head.items()} == {
        "kernel": ((4, classes), np.float32), "bias": ((classes,), np.float32),
    }  # fmt: skip


def test_the_scale_of_the_features_does_not_matter_nor_one_that_is_constant():
    (features, labels), (large, _) = heaps(3), heaps(3, scale=1000.0)
    answers = logits(fit_last_layer(features, labels, 3), features).argmax(axis=1)
    np.testing.assert_array_equal(logits(fit_last_layer(large, labels, 3), large).argmax(axis=1), answers)
    features[:, 0] = 7
    assert np.isfinite(logits(fit_last_layer(features, labels, 3), features)).all()


def test_a_class_without_images_is_never_the_answer():
    features, labels = heaps(2)
    head = fit_last_layer(features, 2 * labels, 4)  # classes 0 and 2 of four
    answers = logits(head, features).argmax(axis=1)
    assert set(answers) == {0, 2}
    assert (answers == 2 * labels).mean() > 0.9


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    features, labels = heaps(2, n=200)
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:4]])
    head = fit_last_layer(features[few], labels[few], 2)
    answers = logits(head, features).argmax(axis=1)
    assert abs((answers == labels)[labels == 1].mean() - (answers == labels)[labels == 0].mean()) < 0.2
