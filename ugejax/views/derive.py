"""Secrets from a secret: short ones by HKDF (RFC 5869), long ones from ChaCha20's keystream (RFC 8439).

On the host and in NumPy, without a generator of JAX or NumPy, whose distributions may change with their releases.
"""

import math

import numpy as np

# `cryptography` and SciPy are imported late: not every command that names a key derives from it.


def derive(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-SHA256 of a secret: bytes that tell nothing of it, nor of those with another label.

    Args:
        secret: of any length, uniformly distributed; its entropy bounds that of the result.
        label: what the bytes are for.
        size: number of bytes, at most 8160.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), size, salt=None, info=f"ugejax {label}".encode()).derive(secret)


class Keystream:
    """Numbers drawn one after the other from ChaCha20's keystream under a key of 256 bits that HKDF derives."""

    def __init__(self, secret: bytes, label: str):
        """Begin the keystream of a secret and a label; see `derive`."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

        key = derive(secret, label, 32)
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def words(self, count: int, dtype: str = "<u4") -> np.ndarray:
        """The next words, of 32 bits or, as "<u8", of 64."""
        return np.frombuffer(self._cipher.update(bytes(np.dtype(dtype).itemsize * count)), dtype)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float64, each the quantile of a word of 32 bits; none is beyond 6.4."""
        from scipy.special import ndtri

        return ndtri((self.words(math.prod(shape)) + 0.5) / 2**32).reshape(shape)

    def permutation(self, count: int) -> np.ndarray:
        """0 ... count - 1 in random order, int64 [count]."""
        return np.argsort(self.words(count, "<u8"), kind="stable")
