"""Key material inside a release is found."""

import base64
from pathlib import Path

import numpy as np
import pytest
from release_examples import SECRET, failed, make_arguments, make_release

from ugejax.release import verify_release


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


def test_secrets_too_short_to_look_for(release: Path):
    with pytest.raises(ValueError, match="by chance"):
        verify_release(release, key_secrets=[b"1234567"])
