"""What a key and a release are, to the byte: recorded once, and the same on every Python, JAX and device.

If one of these fails, releases and keys that people have are no longer what they were made as. On purpose that takes a
new version of the key (`ugejax.authorized.key.VERSION`), which leaves the old one readable.
"""

import base64
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ugejax.authorized import build_authorized, default_step, new_key, seen
from ugejax.perturbation.update import Method
from ugejax.protect import Protection, method_of
from ugejax.training import Recipe

SHAPE = (8, 8, 3)
IMAGES = (np.arange(24 * 8 * 8 * 3) * 37 % 251 + np.arange(24 * 8 * 8 * 3) // 192 % 5).astype(np.uint8)
IMAGES, LABELS = IMAGES.reshape(24, *SHAPE), np.arange(24, dtype=np.int32) % 3


def protection(form: str) -> Protection:
    method: Method = method_of([form])
    key = new_key(
        b"seed 0", form=form, network="mlp", image_shape=SHAPE, num_classes=3, step=default_step(form, method.eps),
        recipe=Recipe(epochs=2), from_seed=True,
    )  # fmt: skip
    return Protection.by(key, build_authorized(key).of_release(key.release_salt("recorded")), method)


def released(job: Protection) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return job.run(IMAGES, LABELS, Path(folder))


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_what_follows_from_a_key():
    key = new_key(
        b"seed 0", form="keyed-dither", network="mlp", image_shape=SHAPE, num_classes=3, step=24,
        recipe=Recipe(epochs=2), from_seed=True,
    )  # fmt: skip
    assert key.secret.hex() == "2436aaf29f20b59c604685142a9d6dd8"
    assert key.fingerprint == "d61e38c19e4e96183ad7a4d1d98e6ee3"
    assert key.release_salt("recorded").hex() == "6c5c4a4b4ccc96fa65bd07f3a1cad467"


def test_the_default_form():
    """Whole numbers from the secret to the pixel: not a bit may differ."""
    job = protection("keyed-dither")
    assert np.asarray(job.network.view.anchors).tolist() == [14, 8, 54, 62, 22, 0, 41, 28]
    assert (
        sha256(np.asarray(job.network.view.dither(IMAGES / np.float32(255))).astype("<i4"))
        == "3e3479571a7da26c6b1b6a4abf041fa19f04811ed6de04e88dc6c4ebfe630196"
    )
    assert sha256(released(job)) == "e724d160c7a8efa232e6d40b8256127e0ae2c6c5788465519dde87bde93a4148"


# Subspaces are computed in floating point: bases are compared to 1e-4 and images but for one value in a hundred, which
# another order of additions may round to the neighbouring level.
SUBSPACES = {
    "keyed-linear": (
        "361be0a2d328d471fc9b2a9dff117b5c0dc996e9f0c618f0f6954de36ec0f664",
        (
            "BCRMbZe02gM1WnyWwOgKNlmEp83uET1gg6TW+htBa5O12QkkTXKVtNwPLVt3o8LvFjFhh6fG8hg+ZYqy1vwbQGiUtuEKJ016lb3l"
            "CzdTd6TI7Rc6aISmz/IjRmSFrtYFHktzlLvZDCpXd6G74xYvVnyrzPEWQFuKptf6KEtqibfUBS5Kd5q32gw1XoGfw+gXMV+CrNHz"
            "GUFmkrHR+ytGaYzA3AosUHCjvOUNN1x6osT0Gzthi6zK8BxLcJGw0AMuUXCYvuMJM1OAo8rlFTxcgaLO8iFAYoun1fcgTGuTu9kK"
            "KFVwmr7jDCtbfabF7xY4ZIan1vUWR2iNt9cGKFFtjbbmCTBSdKLH6hAyW4WjxvQZPGiAs9PzIUVvj6/XByhRcZi84gwrUnelwvAX"
            "O2F9pMj1GUBli7HU/itHdJOz1ggpUnibyOYJMFiFqc3vFj1dgbDM+SRGYoi02AAmR3iTu9kSL1Z5o8HrFjlVhqnK6xZHaIiq1vkd"
            "P2qVvOIDKlB1"
        ),
    ),
    "keyed-content": (
        "1e4fa5183d89bfcbd9001af747b154739940a91af4b846a00e3a45148510a128",
        (
            "AiZMc5Cx3QMtVnqWweUPMlh9ps7xFD1kh63T+SJDYo241goqS3eWu+QOLVZ6or7qCzhhiKjE7BtGbYOr3PkiSmqRt94GJUt0lb3o"
            "ETdYgKLI6RY9Z4upyfkkRWWFs9AEI0Vylr7iBC1SeJzD6BQ0XHqkyO8YQGOLqc79I0pqk7TZCi1Qdpq93gg1V3ucxOcRMVmHp8zv"
            "GkJnkbHW/CdBbpO93gwuS3igwuQPMlx2p8juGj9Ziq7U8RtAaZC01wAmT3GWvuEHLFB6pMTmEThbfqTO7SNCZouz1/wlSG6Or9wL"
            "LVN3l7vnDTJZfabI8RM3W4mk0fgWQGGStNMGKUlykbXfCTBQeZ++6hYwXYSoyusgPGGLsdb3HEJwla/WBTBMdpq+3g0tUHagxOcP"
            "PWCEoMjvGEVnjrLT/idJbI612gYxVHegx+kLL1KGp8vpGj1Zi6rS9B9BZ4+22wMoUXKSu9oPK1Z7ncrpFThagajH8RlDYYuu0vgq"
            "QWSUuNsHK1Ft"
        ),
    ),
}


@pytest.mark.parametrize("form", SUBSPACES)
def test_the_forms_of_subspaces(form):
    job = protection(form)
    bases = getattr(job.network.view, "basis", None)
    bases = np.asarray(job.network.view.bases if bases is None else bases)
    digest, first = SUBSPACES[form]
    assert sha256(np.rint(1e4 * bases.astype(np.float64)).astype("<i4")) == digest
    expected = np.frombuffer(base64.b64decode(first), np.uint8).reshape(2, *SHAPE).astype(int)
    difference = np.abs(released(job)[:2] - expected)
    assert difference.max() <= 1 and (difference > 0).mean() <= 0.01
    assert np.abs(seen(job.network.view, released(job)[:2]) - seen(job.network.view, IMAGES[:2])).max() < 4 / 255
