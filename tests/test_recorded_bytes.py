"""What a key and a release are, to the byte: recorded once, and the same on every Python, JAX and device.

If one of these fails, releases and keys that people have are no longer what they were made as. On purpose that takes a
new version of the key (`ugejax.authorized.key.VERSION`), which leaves the old one readable.
"""

import base64
import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection, method_of
from ugejax.authorized import new_key, seen
from ugejax.training import Recipe
from ugejax.uge import Method
from ugejax.views import default_step

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
    assert sha256(released(job)) == "ce4f5533183aae1304747a63cf3482bfec5ade25302dc375104f33ab6fa3f444"
    strong = replace(job, method=method_of(["keyed-dither"], "strong"))
    assert sha256(released(strong)) == "64de8b0d65b02c814e13cf0629f6ec20cca5f6c0f794ffc70b092a4bb785fdad"
    stripes = replace(job, method=Method())
    assert sha256(released(stripes)) == "e724d160c7a8efa232e6d40b8256127e0ae2c6c5788465519dde87bde93a4148"


# Subspaces are computed in floating point: bases are compared to 1e-4 and images but for one value in a hundred, which
# another order of additions may round to the neighbouring level.
SUBSPACES = {
    "keyed-linear": (
        "361be0a2d328d471fc9b2a9dff117b5c0dc996e9f0c618f0f6954de36ec0f664",
        (
            "BCRMbZi02QQ1WnyWwegKNlmDp83tET5ghKTW+RxAa5K12QkkTXOVtdwPLVt3o8LwFjBiiKfG8hg9Zomy1vwbQGmVtuEJJk16lb3m"
            "DDdTd6TI7hc6aISmz/IjRmSFrdUFHktzlbvZCypWeKK64xcvVnyry/AWQFyJptf6J0tpiLfUBS9KeJq32g02XoKfw+gXMV+DrNH0"
            "GEJnkbDS+ypHaYzA3AotUHGjveQNN1x6osT0Gjthi6zL8BtLcJGw0QMuUXCYveIJNFOApMrmFDxcgaLO8iJBY4un1fcfTGuSu9kL"
            "KFZvmr/jDCxbfabF7xc4ZIan1vUWR2iMt9cHKFFtjbXlCTFSdaLG6hAxW4WixvMZPGiAstPzIkVvj67XBylQcZe84QsrUnelwfEW"
            "O2F9pMj2GUBmirHU/ixHdJOz1gcqUnibyOYJMFiFqc3uFTxcgbDL+SRGYoi02AAnR3eTu9kSMFV5o8HrFzlVh6nK6xZHaImq1fke"
            "P2mVvOIDKlF2"
        ),
    ),
    "keyed-content": (
        "1e4fa5183d89bfcbd9001af747b154739940a91af4b846a00e3a45148510a128",
        (
            "AyZNc5Cx3QQtVnqVweUOMld9ps7xFTxjh67T+SJDYo251gkqS3eWu+QOLlZ6or7qCzhhiKjE7BtFbYSr3PgiSWuRt94GJUtzlb3o"
            "ETdYgKLI6hY9Z4ypyfkkRGSFs9AFI0Vylr7jBCxSeZzC6BQ0XHmkyO8YP2SKqc79IkpqkrXZCi5Qdpq93gg2WHucxOcRMVmHpszv"
            "GUJnkbHW/SdBbpK83wwvS3efwuMOMl12p8juGkBaia7U8htAapCz2AAmT3CXvuIHLFB6pMTlEjlbfqPP7CNCZ4uz1/wlSG6Nr9wM"
            "LlR2l7rnDTFZfabI8RQ3Womj0fcWQGGStNIHKUpykrXfCTFQep+96hYwXIWoyuwhPGGKsdX3HENvla/VBTBMdpm93gwuUHefxOcP"
            "PmGEocjwGUZnjbLT/ihJbI612gYxVXegxugMLlKGpsvoGj1Zi6rS8x9BZpC22wQoUXGRu9oPK1Z7ncrpFjhagajH8RlDYYyu0vcq"
            "QmWUuNsHK1Ft"
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
