"""Weights that networks begin with: what is written is read, and anything else is refused in one line."""

import jax
import numpy as np
import pytest
from evaluation_examples import make_evaluation, make_trial
from safetensors.numpy import save_file

from ugejax.app.cache import FolderCache
from ugejax.errors import UserError
from ugejax.evaluation import evaluate
from ugejax.evaluation.trial import Trial
from ugejax.networks import NETWORKS, Classifier, Network, build, initial_variables, read_weights, write_weights
from ugejax.networks.resnet import ResNetBody
from ugejax.networks.weights import with_weights

SHAPE = (8, 8, 1)


def variables_of(name: str, num_classes: int, seed: int = 0):
    return initial_variables(build(name, num_classes), jax.random.key(seed), SHAPE)


@pytest.mark.parametrize("name", ["mlp", "batch-normed"])
def test_all_but_the_head_is_read_whatever_the_classes(tmp_path, name, monkeypatch):
    body = ResNetBody(stages=((4, 1), (8, 1)), shortcut="pad")
    monkeypatch.setitem(NETWORKS, "batch-normed", Network(lambda num_classes: Classifier(body, num_classes), "sgd"))
    write_weights(tmp_path / "w", given := variables_of(name, 5))
    weights = read_weights(tmp_path / "w", name, SHAPE)
    own = variables_of(name, 3, seed=1)
    begun = with_weights(own, weights)
    for part in given:
        jax.tree.map(np.testing.assert_array_equal, begun[part]["body"], given[part]["body"])
    jax.tree.map(np.testing.assert_array_equal, begun["params"]["head"], own["params"]["head"])
    assert jax.tree.structure(begun) == jax.tree.structure(own)


def test_what_is_no_such_file_is_refused(tmp_path):
    write_weights(tmp_path / "w", variables_of("mlp", 5))
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "absent", "mlp", SHAPE)
    with pytest.raises(UserError, match="has no .*: these are no weights of r20"):
        read_weights(tmp_path / "w", "r20", SHAPE)
    with pytest.raises(UserError, match=r"is \[64, 512\], where mlp has \[768, 512\] for images of 16x16x3"):
        read_weights(tmp_path / "w", "mlp", (16, 16, 3))
    arrays = {name: np.full_like(array, np.nan) for name, array in read_weights(tmp_path / "w", "mlp", SHAPE).items()}
    save_file(arrays, tmp_path / "nan")
    with pytest.raises(UserError, match="is not finite"):
        read_weights(tmp_path / "nan", "mlp", SHAPE)
    (tmp_path / "w").write_bytes(b"no weights")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_weights(tmp_path / "w", "mlp", SHAPE)


def test_pretrained_hackers_and_their_controls_begin_with_them(tmp_path, monkeypatch):
    _, trained = make_trial().run()
    write_weights(tmp_path / "w", trained)
    starts, run = [], Trial.run

    def recorded(trial, report, snapshots):
        starts.append(trial.variables)
        return run(trial, report, snapshots)

    monkeypatch.setattr(Trial, "run", recorded)
    evaluation = make_evaluation(
        countermeasures=("pretrained",), key=None, network=None, hackers=("mlp", "mlp-other-init"),
        init={"mlp": read_weights(tmp_path / "w", "mlp", SHAPE)},
    )  # fmt: skip
    rows, _ = evaluate(evaluation, FolderCache(tmp_path / "cache"))
    assert [row["network"] for row in rows] == ["mlp", "mlp-other-init"] and len(starts) == 4
    for start in starts:
        jax.tree.map(np.testing.assert_array_equal, start["params"]["body"], trained["params"]["body"])
    heads = [start["params"]["head"]["kernel"] for start in starts]
    assert (heads[0] == heads[1]).all() and (heads[0] != heads[2]).any()
    with pytest.raises(UserError, match="`init`: .*pretrained needs weights of cnn"):
        make_evaluation(countermeasures=("pretrained",), hackers=("mlp", "cnn"), init=evaluation.init)
