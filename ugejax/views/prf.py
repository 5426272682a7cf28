"""A pseudo-random function on 32-bit words, written out so that no release of JAX and no flag changes a value.

BLAKE2s with a key (RFC 7693) makes a tag of 256 bits from a message, and ChaCha20 (RFC 8439) words from the tag. Both
are sums, rotations and exclusive ors of 32-bit words: pure functions of arrays, usable under jit, vmap and pmap. Loops
stand where unrolled rounds would take seconds to compile, and both are compiled as a whole: a program that asks for
words in many places has each of them traced once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# RFC 7693, section 2.6 and 2.7 (the ten permutations of the message that BLAKE2s uses).
_IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ]
)
# Of each round the two words for each column, then the two for each diagonal, [10, 4, 4].
_SCHEDULE = np.stack([_SIGMA[:, start : start + 8 : 2] for start in (0, 1, 8, 9)], axis=1)
_BLOCK = 64
# RFC 8439, section 2.3: "expand 32-byte k".
_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4")


def to_words(values: jax.Array) -> jax.Array:
    """Bytes [..., 4 n], integers in 0 .. 255, as the words [..., n] that they are in little-endian order."""
    parts = values.astype(jnp.uint32).reshape(*values.shape[:-1], -1, 4)
    return (parts << jnp.array([0, 8, 16, 24], jnp.uint32)).sum(axis=-1, dtype=jnp.uint32)


@jax.jit
def blake2s(secret: jax.Array, message: jax.Array) -> jax.Array:
    """BLAKE2s of a message with a key.

    Args:
        secret: uint32 [k], k in 1 .. 8: a key of 4 k bytes.
        message: its bytes [n], integers in 0 .. 255; n is at least 1.

    Returns:
        uint32 [8], the hash of 32 bytes.
    """
    size = message.shape[0]
    padded = jnp.zeros(-(-size // _BLOCK) * _BLOCK, jnp.uint32).at[:size].set(message.astype(jnp.uint32))
    first = jnp.zeros(16, jnp.uint32).at[: secret.shape[0]].set(secret)
    blocks = jnp.concatenate([first[None], to_words(padded).reshape(-1, 16)])
    parameters = 0x01010000 ^ (4 * secret.shape[0] << 8) ^ 32
    state, count = jnp.asarray(_IV) ^ jnp.array([parameters] + [0] * 7, jnp.uint32), len(blocks)
    ends = [min((i + 1) * _BLOCK, _BLOCK + size) for i in range(count)]  # bytes that were hashed after each block
    last = [0] * (count - 1) + [0xFFFFFFFF]

    def compress(i, state):
        counts = jnp.array([[end, 0, flag, 0] for end, flag in zip(ends, last, strict=True)], jnp.uint32)[i]
        words = blocks[i]

        def turn(r, rows):
            index = jnp.asarray(_SCHEDULE)[r]
            rows = _mixed(rows, words[index[0]], words[index[1]])
            return _to_columns(_mixed(_to_diagonals(rows), words[index[2]], words[index[3]]))

        low, high = state.reshape(2, 4)
        start = (low, high, jnp.asarray(_IV[:4]), jnp.asarray(_IV[4:]) ^ counts)
        a, b, c, d = jax.lax.fori_loop(0, len(_SIGMA), turn, start)
        return state ^ jnp.concatenate([a ^ c, b ^ d])

    return jax.lax.fori_loop(0, count, compress, state)


@functools.partial(jax.jit, static_argnames="count")
def chacha20(key: jax.Array, count: int) -> jax.Array:
    """The first words of ChaCha20's keystream with nonce 0, from block 0 on.

    Args:
        key: uint32 [8].
        count: number of words.

    Returns:
        uint32 [count].
    """
    blocks = -(-count // 16)
    counter = jnp.zeros((4, blocks), jnp.uint32).at[0].set(jnp.arange(blocks, dtype=jnp.uint32))
    words = (jnp.asarray(_CONSTANTS), key[:4], key[4:])
    start = (*(jnp.broadcast_to(row[:, None], (4, blocks)) for row in words), counter)

    def double_round(_, rows):
        return _to_columns(_quarter(_to_diagonals(_quarter(rows))))

    rows = jax.lax.fori_loop(0, 10, double_round, start)
    stream = jnp.concatenate([row + began for row, began in zip(rows, start, strict=True)])
    return stream.T.reshape(-1)[:count]


def below(words: jax.Array, limit: int) -> jax.Array:
    """floor(word * limit / 2^32) for words [...]: numbers in 0 .. limit - 1, each too frequent by at most 2^-32.

    Args:
        words: uint32 [...].
        limit: at most 65,535.

    Returns:
        int32 [...].
    """
    high, low = words >> 16, words & 0xFFFF
    return ((high * limit + (low * limit >> 16)) >> 16).astype(jnp.int32)


# Both ciphers keep 16 words in four rows of four, mix columns, then diagonals. Rows are uint32 [4, ...].


def _turned(words: jax.Array, bits: int) -> jax.Array:
    return words << bits | words >> (32 - bits)


def _quarter(rows: tuple) -> tuple:
    """ChaCha20's quarter round (RFC 8439, section 2.1) of all four columns."""
    a, b, c, d = rows
    a = a + b
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 12)
    a = a + b
    d = _turned(d ^ a, 8)
    c = c + d
    b = _turned(b ^ c, 7)
    return a, b, c, d


def _mixed(rows: tuple, x: jax.Array, y: jax.Array) -> tuple:
    """BLAKE2s' function G (RFC 7693, section 3.1) of all four columns, with two words of the message for each."""
    a, b, c, d = rows
    a = a + b + x
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 20)
    a = a + b + y
    d = _turned(d ^ a, 24)
    c = c + d
    b = _turned(b ^ c, 25)
    return a, b, c, d


def _to_diagonals(rows: tuple) -> tuple:
    a, b, c, d = rows
    return a, jnp.roll(b, -1, axis=0), jnp.roll(c, -2, axis=0), jnp.roll(d, -3, axis=0)


def _to_columns(rows: tuple) -> tuple:
    a, b, c, d = rows
    return a, jnp.roll(b, 1, axis=0), jnp.roll(c, 2, axis=0), jnp.roll(d, 3, axis=0)
