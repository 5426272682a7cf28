"""What follows from a key: published ciphers, nothing that a flag of JAX changes; and old keys still read."""

import dataclasses
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import stats

from ugejax.app.keys import build_authorized, read_key, set_passphrase, write_key
from ugejax.app.protection import Protection
from ugejax.authorized import new_key, seen
from ugejax.errors import UserError
from ugejax.training import Recipe
from ugejax.views import dither_view
from ugejax.views.derive import Keystream, derive
from ugejax.views.prf import below, blake2s, chacha20

SHAPE = (16, 8, 3)
IMAGES = (np.arange(3 * 16 * 8 * 3) * 37 % 256).astype(np.uint8).reshape(3, *SHAPE)
X = IMAGES / np.float32(255)


def words(content: bytes) -> jax.Array:
    return jnp.asarray(np.frombuffer(content, "<u4"))


def content(words: jax.Array) -> bytes:
    return np.asarray(words).astype("<u4").tobytes()


def make_key(form: str = "keyed-dither", **changes):
    key = new_key(
        b"seed 0", form=form, network="mlp", image_shape=SHAPE, num_classes=3,
        step=24 if form == "keyed-dither" else None, recipe=Recipe(epochs=2), from_seed=True,
    )  # fmt: skip
    return dataclasses.replace(key, **changes)


def test_the_keystream_is_that_of_rfc_8439():
    # Appendix A.1, test vector 1: key, nonce and counter are zero.
    expected = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a37"
    assert content(chacha20(jnp.zeros(8, jnp.uint32), 12)).hex() == expected
    secret = np.random.default_rng(0).bytes(32)
    published = Cipher(algorithms.ChaCha20(secret, bytes(16)), None).encryptor().update(bytes(4 * 1003))
    assert content(jax.jit(chacha20, static_argnums=1)(words(secret), 1003)) == published


@pytest.mark.parametrize(("secret", "size"), [*((16, size) for size in (1, 63, 64, 65, 128, 200)), (4, 65), (32, 65)])
def test_the_tag_is_that_of_rfc_7693(size, secret):
    rng = np.random.default_rng(size + secret)
    key, message = rng.bytes(secret), rng.bytes(size)
    tag = blake2s(words(key), jnp.asarray(np.frombuffer(message, np.uint8)))
    assert content(tag) == hashlib.blake2s(message, key=key).digest()


def test_secrets_are_derived_as_in_rfc_5869(monkeypatch):
    # HKDF-SHA256 without salt: PRK = HMAC(0, secret), T(1) = HMAC(PRK, info || 1).
    def hmac(key: bytes, message: bytes) -> bytes:
        key = key.ljust(64, b"\0")
        inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + message).digest()
        return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()

    secret, prk = bytes(range(16)), hmac(bytes(32), bytes(range(16)))
    assert derive(secret, "view", 20) == hmac(prk, b"ugejax view\x01")[:20]
    assert make_key(secret=secret).derive("view", 32) == hmac(prk, b"ugejax view\x01")


def test_a_word_below_a_limit():
    given = np.array([0, 1, 2**16 - 1, 2**31, 2**32 - 1, *np.random.default_rng(0).integers(0, 2**32, 500)], np.uint32)
    for limit in (2, 3, 24, 160, 255):
        expected = [int(word) * limit >> 32 for word in given]
        np.testing.assert_array_equal(below(jnp.asarray(given), limit), expected)


def test_normal_numbers_and_permutations_of_the_keystream():
    normal = Keystream(b"secret", "normal").normal((100, 200)).ravel()
    assert np.isfinite(normal).all() and stats.kstest(normal, "norm").pvalue > 0.01
    orders = [Keystream(b"secret", str(i)).permutation(4) for i in range(2400)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 0.01


def by_hand(secret: bytes, salt: bytes, image: np.ndarray, anchors: np.ndarray, step: int) -> np.ndarray:
    """The dither of one image as anybody would write it who has no JAX."""
    tag = hashlib.blake2s(salt + image.reshape(-1, image.shape[-1])[anchors].tobytes(), key=secret).digest()
    stream = Cipher(algorithms.ChaCha20(tag, bytes(16)), None).encryptor().update(bytes(4 * image.size))
    return (np.frombuffer(stream, "<u4").astype(np.uint64) * step >> 32).reshape(image.shape)


def test_the_dither_is_what_its_definition_says_whatever_jax_draws_numbers_by():
    salt = bytes(range(16))
    view = dither_view(b"secret", SHAPE, salt=salt, step=24)
    secret, anchors = derive(b"secret", "dither", 16), np.asarray(view.anchors)
    assert len(set(anchors.tolist())) == 16 and anchors.max() < 128
    expected = np.stack([by_hand(secret, salt, image, anchors, 24) for image in IMAGES])
    for flag in (True, False):
        with jax.threefry_partitionable(flag):
            np.testing.assert_array_equal(view.dither(X), expected)


def test_nothing_secret_of_a_view_is_drawn_by_jax(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a view is derived")

    for name in ("normal", "bits", "permutation", "randint", "uniform", "split", "fold_in"):
        monkeypatch.setattr(jax.random, name, refused)
    from ugejax.perturbations.start import class_stripes
    from ugejax.views import FORMS

    for form in ("keyed-dither", "keyed-linear", "keyed-content"):
        key = make_key(form)
        FORMS[form].view(key.derive("view", 32), SHAPE, key.step)
    class_stripes(key.derive("textures", 32), 3, SHAPE, amplitude=1.0, period=4)
    dither_view(b"secret", SHAPE, salt=bytes(16)).apply(X)


def test_every_part_of_the_secret_decides():
    """Half of it, or any other share, is of no use: a view of 64 bits would change with some of its bits alone."""
    whole = make_key().derive("view", 32)
    for bit in range(128):
        other = bytearray(make_key().secret)
        other[bit // 8] ^= 1 << bit % 8
        assert make_key(secret=bytes(other)).derive("view", 32) != whole


def test_a_view_without_a_release_sees_nothing():
    network = build_authorized(make_key())
    with pytest.raises(ValueError, match="salt of a release"):
        network.view.apply(X)
    with pytest.raises(UserError, match="has no salt"):
        network.of_release(None)
    assert network.salt is None and network.of_release(bytes(16)).salt == bytes(16)
    linear = build_authorized(make_key("keyed-linear"))
    assert linear.of_release(None) is linear.of_release(bytes(16)) is linear


# Of ugejax 0.1, by `make_key` of then: what a key of version 1 is and sees.
OLD = {
    "keyed-dither": "06dc07cfd7a7ca48e2cd151a67d63f37",
    "keyed-linear": "3287b6b13fd77029b1e0b74681342bd1",
    "keyed-content": "01ecf748adb20774ffef3848b3f01f6c",
    "plain": "f4f28a1551151370a19649e02a847e86",
}
OLD_ARRAYS = {
    "keyed-dither": ([1421465554, 1088388207, 2484430688, 3534704775], [23, 37, 91, 85, 103, 10, 16, 117]),
    "keyed-linear": ([-0.03159630, -0.03906485, 0.00498793, 0.05541648],),
    "keyed-content": (
        [-0.01321125, 0.09355611, -0.07702269, 0.14275131], [-1.71582282, 0.33807540, -1.85385108, 0.64616209],
    ),
    "plain": (),
}  # fmt: skip


@pytest.mark.parametrize("form", OLD)
def test_a_key_of_the_first_version_is_what_it_was(form, tmp_path):
    key = make_key(form, version=1)
    assert key.fingerprint == OLD[form] != make_key(form).fingerprint
    network = build_authorized(key).of_release(None)
    for leaf, expected in zip(jax.tree.leaves(network.view), OLD_ARRAYS[form], strict=True):
        np.testing.assert_allclose(np.asarray(leaf).ravel()[: len(expected)], expected, atol=1e-6)
    if form == "keyed-dither":
        dither = np.asarray(network.view.dither(X)).astype("<i4")
        assert dither.ravel()[:12].tolist() == [3, 22, 0, 21, 18, 5, 6, 13, 11, 6, 5, 19]
        digest = "b08e3fac6320dac012724ebded969f75e8ce7ad0f0ddd251572dd80e46eef582"
        assert hashlib.sha256(dither.tobytes()).hexdigest() == digest
    with pytest.raises(UserError, match="is of ugejax 0.1"):
        Protection.by(key, network, None)
    write_key(tmp_path / "key", key, network.arrays)
    written = json.loads((tmp_path / "key" / "key.json").read_text())
    assert written["schema"] == 1 and "version" not in written
    assert read_key(tmp_path / "key") == key
    again = build_authorized(key, tmp_path / "key").of_release(None)
    np.testing.assert_array_equal(seen(again.view, IMAGES), seen(network.view, IMAGES))


@pytest.mark.parametrize(("version", "schemas"), [(1, [1, 2]), (2, [3, 4])])
def test_a_key_says_what_can_read_it(version, schemas, tmp_path):
    key, file = make_key("plain", version=version), tmp_path / "key" / "key.json"
    write_key(tmp_path / "key", key, build_authorized(key).arrays)
    found = []
    for passphrase in (None, "correct horse battery"):
        set_passphrase(tmp_path / "key", key, passphrase)
        found.append(json.loads(file.read_text())["schema"])
        assert read_key(tmp_path / "key", lambda: "correct horse battery") == key
    assert found == schemas
    set_passphrase(tmp_path / "key", key, None)
    for schema, says in ((4 - schemas[0], "fingerprint does not match"), (9, "of schema 9"), (None, "of schema None")):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": schema}))
        with pytest.raises(UserError, match=says):
            read_key(tmp_path / "key")
