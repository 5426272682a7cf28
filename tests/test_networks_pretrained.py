"""Published weights give their published accuracy, and bad files are refused in one line."""

import io
import zipfile

import jax
import numpy as np
import pytest

from ugejax.compiler import compiler_options
from ugejax.errors import UserError
from ugejax.networks import build, count_parameters, load_pretrained

R20 = "weights/resnet20-12fca82f.npz"
R56 = "weights/resnet56-4bfd9763.npz"


def existing(path):
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def test_r20_scores_its_published_accuracy(shared_data):
    tfds = pytest.importorskip("tensorflow_datasets")
    existing(shared_data / "tfds" / "cifar10")
    source = tfds.data_source("cifar10", split="test", data_dir=str(shared_data / "tfds"))
    examples = source.__getitems__(range(10_000))
    data = np.stack([example["image"] for example in examples])
    targets = np.array([example["label"] for example in examples])
    network, variables = build("r20", 10), load_pretrained("r20", existing(shared_data / R20))
    # Ten thousand images are worth the time that optimising takes, which the other tests save.
    options = compiler_options() | {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    predict = jax.jit(lambda x: network.apply(variables, x).argmax(axis=-1), compiler_options=options)
    batches = np.split(data, 40)
    predicted = np.concatenate([np.asarray(predict(batch / np.float32(255))) for batch in batches])
    assert np.sum(predicted == targets) == 9173


def test_r56_is_filled_completely(shared_data):
    path = existing(shared_data / R56)
    variables = load_pretrained("r56", path)
    with np.load(path, allow_pickle=False) as file:
        assert len(jax.tree.leaves(variables)) == len(file.files)
    assert count_parameters(variables) == 853_018


@pytest.fixture
def arrays(shared_data) -> dict[str, np.ndarray]:
    with np.load(existing(shared_data / R20), allow_pickle=False) as file:
        return dict(file)


def test_running_statistics_and_kernels_land_in_their_places(arrays, shared_data):
    variables = load_pretrained("r20", shared_data / R20)
    block = variables["params"]["body"]["layer2_0"]
    np.testing.assert_array_equal(block["conv1"]["kernel"][1, 2, 3, 4], arrays["layer2.0.conv1.weight"][4, 3, 1, 2])
    statistics = variables["batch_stats"]["body"]["layer2_0"]["bn2"]
    np.testing.assert_array_equal(statistics["var"], arrays["layer2.0.bn2.running_var"])
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], arrays["linear.weight"].T)


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: without(a, "layer2.0.bn1.running_var"), "'layer2.0.bn1.running_var' is missing"),
        (lambda a: {**a, "linear.weight": a["linear.weight"].T}, "'linear.weight' has the wrong shape"),
        (lambda a: {**a, "layer4.0.conv1.weight": a["conv1.weight"]}, "'layer4.0.conv1.weight' has no place"),
        (lambda a: {**a, "bn1.bias": a["bn1.bias"] * np.nan}, "'bn1.bias' must hold finite"),
        (lambda a: {**a, "bn1.bias": a["bn1.bias"].astype(np.int32)}, "'bn1.bias' must hold finite"),
    ],
)
def test_changed_arrays_are_refused(arrays, tmp_path, change, message):
    path = tmp_path / "weights.npz"
    np.savez(path, **change(arrays))
    with pytest.raises(UserError, match=message) as caught:
        load_pretrained("r20", path)
    assert "weights.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_pytorch_batch_counters_are_ignored(arrays, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays, **{"bn1.num_batches_tracked": np.array(7)})
    assert load_pretrained("r20", path)["params"]["head"]["bias"].shape == (10,)


def test_weights_of_the_deeper_network_are_refused(shared_data):
    with pytest.raises(UserError, match="has no place in r20"):
        load_pretrained("r20", existing(shared_data / R56))


class Exploit:
    """Unpickling this creates the file it was made with."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_loaded(tmp_path):
    path, trace = tmp_path / "pickled.npz", tmp_path / "trace"
    np.savez(path, **{"conv1.weight": np.array([Exploit(trace)], dtype=object)})
    with pytest.raises(UserError, match="pickled.npz: holds Python objects"):
        load_pretrained("r20", path)
    assert not trace.exists()


def test_unreadable_files_are_refused(tmp_path):
    truncated, corrupt, plain = tmp_path / "truncated.npz", tmp_path / "corrupt.npz", tmp_path / "plain.npy"
    truncated.write_bytes(b"PK\x03\x04 not a zip")
    np.savez_compressed(corrupt, conv=np.arange(4096.0))
    content = bytearray(corrupt.read_bytes())
    content[100:300] = bytes(255 for _ in range(200))
    corrupt.write_bytes(content)
    np.save(plain, np.zeros(3))
    unknown = tmp_path / "unknown.npz"
    with zipfile.ZipFile(unknown, "w") as archive:
        archive.writestr("conv1.weight.npy", b"\x93NUMPY\x09\x00" + bytes(100))  # a version that there is not
    for path in (truncated, corrupt, plain, unknown, tmp_path):
        with pytest.raises(UserError, match=f"{path.name}: not a readable") as caught:
            load_pretrained("r20", path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="absent.npz: no such file"):
        load_pretrained("r20", tmp_path / "absent.npz")


def test_what_unpacks_to_more_than_a_network_is_refused_before_it_is_unpacked(tmp_path):
    large, lying = tmp_path / "large.npz", tmp_path / "lying.npz"
    np.savez_compressed(large, **{"conv1.weight": np.zeros(2**24 + 1, np.float32)})
    assert large.stat().st_size < 2**17
    with pytest.raises(UserError, match="large.npz: unpacks to more than any of these networks"):
        load_pretrained("r20", large)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(lying, "w") as archive:
        archive.writestr("conv1.weight.npy", header.getvalue())
    with pytest.raises(UserError, match="more is declared than there is"):
        load_pretrained("r20", lying)


def test_networks_without_published_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="no pretrained weights of 'cnn'"):
        load_pretrained("cnn", tmp_path / "weights.npz")
