"""Key material inside a release is found."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_examples import SECRET, failed, make_arguments, make_release

from ugejax.app.release import secrets, verify_release
from ugejax.app.release.secrets import find_secret, forms_of_numbers


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release", save_images=True)


@pytest.mark.parametrize("name", ["key.json", "images/key.json", "theta_0/_METADATA", "0.orbax-checkpoint-tmp/x"])
def test_files_of_a_key_are_found(release: Path, name):
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text("{}")
    assert failed(release) == {"files", "key material"}


@pytest.mark.parametrize(
    "encode",
    [
        lambda secret: secret,
        lambda secret: secret.hex().encode(),
        lambda secret: secret.hex().upper().encode(),
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda secret: base64.b64encode(b"x" + secret + b"yz"),
        lambda secret: base64.b64encode(b"xy" + secret + b"z"),
    ],
)
def test_secrets_are_found_in_every_file(release: Path, encode):
    for secret in (SECRET, bytes(range(200, 223)), b"\xff\xfe\xfb" * 5 + b"\x01"):
        leaked = encode(secret)
        for name in ("card.json", "data.npz", "images/0.png"):
            kept = (release / name).read_bytes()
            (release / name).write_bytes(kept + b" " + leaked + b" ")
            assert "key material" in failed(release, key_secrets=[SECRET[::-1], secret])
            (release / name).write_bytes(kept)
    assert failed(release, key_secrets=[SECRET]) == set()


def test_a_secret_in_the_pixels_is_found(tmp_path: Path):
    images = make_arguments()["images"].copy()
    images[1].reshape(-1)[20:52] = np.frombuffer(SECRET, np.uint8)
    folder = make_release(tmp_path / "release", images=images)
    assert "key material" in failed(folder, key_secrets=[SECRET])


NUMBERS = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
WORDS = np.random.default_rng(4).integers(2**27, 2**32, 4, np.uint32)


@pytest.mark.parametrize(
    "leaked",
    [
        *(kind.tobytes() for kind in (NUMBERS, NUMBERS.astype(np.float64), NUMBERS.byteswap())),
        *(kind.tobytes() for kind in (WORDS, WORDS.astype(np.int64), WORDS.byteswap())),
        *(kind.tobytes().hex().encode() for kind in (NUMBERS, WORDS, WORDS.byteswap())),
        base64.b64encode(NUMBERS.tobytes()),
        *(
            json.dumps({"view": kind.tolist()}, indent=indent).encode()
            for kind in (NUMBERS, WORDS)
            for indent in (0, 2)
        ),
        *(str(kind).encode() for kind in (NUMBERS.ravel().tolist(), WORDS)),
        " ".join(map(str, NUMBERS.ravel())).encode(),
    ],
)
def test_arrays_are_found_in_whatever_form(release: Path, leaked):
    for name in ("card.json", "data.npz"):
        kept = (release / name).read_bytes()
        (release / name).write_bytes(kept + b" " + leaked)
        assert "key material" in failed(release, key_numbers=[np.zeros(9), NUMBERS, WORDS])
        (release / name).write_bytes(kept)
    assert failed(release, key_numbers=[NUMBERS, WORDS]) == set()


def test_numbers_that_would_be_found_by_chance_are_not_looked_for():
    for numbers in (np.zeros(100), np.arange(9), np.array([0.5, 0.25]), np.array([7], np.int32), np.zeros((0, 3))):
        assert forms_of_numbers(numbers) == frozenset()


@settings(max_examples=100)
@given(
    content=st.binary(max_size=60), forms=st.sets(st.binary(min_size=8, max_size=12), min_size=1), data=st.data(),
    chunk=st.integers(8, 40),
)  # fmt: skip
def test_of_many_secrets_each_is_found_wherever_it_stands(tmp_path_factory, content, forms, data, chunk):
    path = tmp_path_factory.getbasetemp() / "file"
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content)))
        content = content[:at] + data.draw(st.sampled_from(sorted(forms))) + content[at:]
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "_CHUNK", chunk)
        assert find_secret(path, forms) == any(form in content for form in forms)


def test_secrets_too_short_to_look_for(release: Path):
    with pytest.raises(ValueError, match="by chance"):
        verify_release(release, key_secrets=[b"1234567"])
