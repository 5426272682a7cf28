"""Which kind of perturbation holds, inside the cells of `keyed-dither`? Kinds side by side, and adaptive hackers.

Command:
    python -m experiments.perturbation_kinds --data-dir TFDS_FOLDER --out runs/perturbation-kinds [--scale small]
        [--kinds default,stripes-8,...] [--hackers cnn] [--countermeasures none,class-means,...]

Time: at the small scale (CIFAR-10, 5,000 training and 2,000 test images, budget 8/255, one seed) three trainings a kind
with the default hacker and countermeasures, a minute or two each on one CPU core; what is finished is not done again.

Expect (tables in docs/results): stripes of one code a class harm most, and a hacker who knows of them subtracts them;
the default's five periods of one colour lose less to JPEG, grey and projections than one period of many colours;
kinds without a class mean withstand who subtracts, harm less, and are found by second moments; processes that live in
exact relations of neighbouring pixels do not survive the cells. On grey images with crops and flips
(grey+crop-flip) nothing of the default is left and half of products of short waves, which lose as much to a low-pass
filter and to crops.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.composed import EPS, load_job, print_rows
from experiments.scales import parser
from ugejax.baselines.ar import ArSettings, autoregressive_noise
from ugejax.data import Dataset
from ugejax.perturbations.start import class_stripes
from ugejax.uge import Method

Noise = Callable[[jax.Array, Dataset], np.ndarray]  # -> float32 [N, H, W, C] in units of eps


def default(key: jax.Array, data: Dataset, period: int = Method().period) -> np.ndarray:
    """What `protect` starts from."""
    secret = np.asarray(jax.random.key_data(key)).tobytes()
    codes = class_stripes(secret, len(data.class_names), data.images.shape[1:], amplitude=1.0, period=period)
    return np.asarray(codes)[data.labels]


def short_and_long(key: jax.Array, data: Dataset) -> np.ndarray:
    """The default's waves, of about 4 pixels in red and green and 14 in blue: what grey images keep is short."""
    return np.concatenate([default(key, data, period=4)[..., :2], default(key, data)[..., 2:]], axis=-1)


def products(key: jax.Array, data: Dataset, cycles: Sequence[float] = (4, 8, 12)) -> np.ndarray:
    """Products of short waves along both axes in red and green, the default's long ones in blue."""
    return np.concatenate([yellow_products(key, data, cycles)[..., :2], default(key, data)[..., 2:]], axis=-1)


def yellow_products(key: jax.Array, data: Dataset, cycles: Sequence[float] = (4, 8, 12)) -> np.ndarray:
    """The same short products in yellow against blue."""
    bank = _products((0, *cycles), data.images.shape[1:3])
    dealt = np.asarray(jax.random.permutation(key, len(bank)))[: len(data.class_names)]
    return (bank[dealt[data.labels]][..., None] * np.array([1, 1, -1])).astype(np.float32)


def stripes(key: jax.Array, data: Dataset, period: int = 8) -> np.ndarray:
    """One period for all classes, which differ in direction and colour: signs of red, green and blue but grey."""
    side = data.images.shape[1]
    signs = np.array(list(itertools.product((1, -1), repeat=3)), np.float32)
    colours = signs[abs(signs.sum(axis=1)) < 3]
    (wave,) = _square_waves([32 / period], side)
    waves = [np.broadcast_to(wave[:, None], (side, side)), np.broadcast_to(wave, (side, side))]
    bank = (np.stack(waves)[:, None, ..., None] * colours[:, None, None]).reshape(-1, side, side, 3)
    dealt = np.asarray(jax.random.permutation(key, len(bank)))[: len(data.class_names)]
    return bank[dealt[data.labels]]


def two_periods(key: jax.Array, data: Dataset) -> np.ndarray:
    """A code of period 8 and one of period 16 a class, at half the amplitude each."""
    return (stripes(key, data) + stripes(jax.random.fold_in(key, 1), data, 16)) / 2


def _square_waves(cycles: Sequence[float], side: int) -> np.ndarray:
    """Signs of cosines about the middle of `side` pixels, int [len(cycles), side], of so many cycles in 32 pixels."""
    phase = 2 * np.pi * np.outer(cycles, np.arange(side) - (side - 1) / 2) / 32
    return np.where(np.cos(phase) > -1e-9, 1, -1)


def _products(cycles: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """Products of a square wave along the rows and one along the columns, all but the first, int [P, H, W]."""
    rows, columns = (_square_waves(cycles, side) for side in shape)
    return (rows[:, None, :, None] * columns[None, :, None, :]).reshape(-1, *shape)[1:]


def two_waves(key: jax.Array, data: Dataset) -> np.ndarray:
    """A short wave in red and green, which JPEG keeps, and a long one in blue, which a low-pass filter keeps.

    Each tells the classes apart by itself. A wave is the product of square waves along the rows and the
    columns, of so many cycles in 32 pixels each.
    """
    noise = np.empty(data.images.shape, np.float32)
    for number, (cycles, channels) in enumerate((((0, 3, 4, 5), (0, 1)), ((0, 1, 2, 3), (2,)))):
        bank = _products(cycles, data.images.shape[1:3])
        dealt = np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(bank)))
        for channel in channels:
            noise[..., channel] = bank[dealt[data.labels]]
    return noise


def signed_stripes(key: jax.Array, data: Dataset) -> np.ndarray:
    """Stripes of a random sign in every image: no class has a mean."""
    signs = jax.random.rademacher(jax.random.fold_in(key, 1), (len(data.labels), 1, 1, 1))
    return stripes(key, data) * np.asarray(signs)


def shifted_stripes(key: jax.Array, data: Dataset) -> np.ndarray:
    """Stripes at a random phase in every image."""
    h, w, _ = data.images.shape[1:]
    shifts = np.asarray(jax.random.randint(jax.random.fold_in(key, 1), (len(data.labels), 2), 0, 8))
    noise = stripes(key, data)
    return np.stack([np.roll(image, tuple(shift), (0, 1)) for image, shift in zip(noise, shifts, strict=True)])


def autoregressive(key: jax.Array, data: Dataset) -> np.ndarray:
    """One autoregressive process a class (Sandoval-Segura et al. 2022), its standard deviation the budget."""
    noise, _ = autoregressive_noise(key, data.labels, len(data.class_names), data.images.shape[1:], ArSettings())
    return np.clip(noise / noise.std(axis=(1, 2, 3), keepdims=True), -1, 1)


def fields(key: jax.Array, data: Dataset) -> np.ndarray:
    """Gaussian random fields: waves around a direction, a length and a colour of the class, random in every image."""
    n, (h, w, c) = len(data.labels), data.images.shape[1:]
    white = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (n, h, w)))
    down, across = np.meshgrid(np.fft.fftfreq(h), np.fft.rfftfreq(w), indexing="ij")
    directions = np.random.default_rng(0).permutation(len(data.class_names))
    colours = np.array([[1, 1, -1], [1, -1, 1], [-1, 1, 1]], float)[:, :c]
    noise = np.empty(data.images.shape, np.float32)
    for label in range(len(data.class_names)):
        angle = np.pi * (directions[label] % 5) / 5
        length = 1 / 8 if directions[label] < 5 else 1 / 5
        centre = length * np.array([np.sin(angle), np.cos(angle)])
        near = sum(
            np.exp(-((down - sign * centre[0]) ** 2 + (across - sign * centre[1]) ** 2) / (2 * 0.02**2))
            for sign in (1, -1)
        )
        waves = np.fft.irfft2(np.fft.rfft2(white[data.labels == label], axes=(1, 2)) * near, s=(h, w), axes=(1, 2))
        noise[data.labels == label] = np.sign(waves)[..., None] * colours[label % 3]
    return noise


KINDS: dict[str, Noise] = {
    "default": default,
    "default-6": functools.partial(default, period=6),
    "short-and-long": short_and_long,
    "products": products,
    "shorter-products": functools.partial(products, cycles=(6, 10, 14)),
    "yellow-products": yellow_products,
    "shorter-yellow-products": functools.partial(yellow_products, cycles=(6, 10, 14)),
    **{f"stripes-{period}": functools.partial(stripes, period=period) for period in (8, 12, 16)},
    "two-periods": two_periods,
    "two-waves": two_waves,
    "signed-stripes": signed_stripes,
    "shifted-stripes": shifted_stripes,
    "ar": autoregressive,
    "fields": fields,
}
OPTIMISED: dict[str, Method] = {
    "em": Method(parametrisation="sample-wise", amplitude=0.0, epochs=20, surrogates=("cnn", "mlp")),
}


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--kinds", default=",".join([*KINDS, *OPTIMISED]), help="comma-separated")
    arguments = arguments.parse_args()
    job, rows = load_job(arguments, form="keyed-dither"), {}
    images, labels = job.train.images, job.train.labels
    for kind in arguments.kinds.split(","):
        folder = arguments.out / kind
        if kind in KINDS:
            noise = EPS * KINDS[kind](job.key.prng("textures"), job.train)
            released = job.protection(Method(parametrisation="sample-wise")).release(images, labels, jnp.asarray(noise))
        else:
            released = job.protection(OPTIMISED[kind]).run(images, labels, folder)
        rows[kind] = job.evaluate(
            released, folder, hackers=arguments.hackers or ("cnn",),
            countermeasures=arguments.countermeasures or ("none", "class-means", "key-recovery"),
        )  # fmt: skip
    print_rows("kind", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
