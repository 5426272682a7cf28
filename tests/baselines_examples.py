"""What the tests of the baselines share: images, and one compilation of each program.

The tests use the same shapes and settings where they can, so that most programs are compiled once in a session.
"""

import functools

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from sklearn.datasets import load_digits

N, CLASSES, BATCH = 120, 10, 40


@functools.cache
def digits(*, darkest: int, brightest: int) -> tuple[np.ndarray, np.ndarray]:
    """Real digits, uint8 [120, 8, 8, 1] in that range of grey levels, and their labels, int32 [120]."""
    data = load_digits()
    images = np.round(darkest + (brightest - darkest) * data.images[:N] / 16).astype(np.uint8)[..., None]
    return images, data.target[:N].astype(np.int32)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A folder of compiled programs: every run of a baseline builds its own functions, mostly the same ones."""
    return str(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def compiled_once(programs):
    """XLA takes what was compiled before from the folder."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (programs, 0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
