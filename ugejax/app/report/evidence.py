"""Images and statistics that an evaluation stores for its report, which is made without the originals."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from ugejax.app.files import replaced
from ugejax.app.release.quality import measure_quality
from ugejax.errors import UserError

_CHUNK = 256  # images worked on at a time
_CLASSES = 10  # classes of which an image is shown


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """Images, spectra and features.

    Attributes:
        index: which images are shown, int [K]: the one of the lowest PSNR, the median one, one of each class.
        labels: of them, int32 [K].
        originals: uint8 [K, H, W, C].
        released: uint8 [K, H, W, C].
        psnr: of them in dB, float64 [K]; infinite where nothing changed.
        ssim: of them, float64 [K].
        noise_power: mean power of the perturbation at each frequency over all images and channels, in units of
            [0, 1] squared, float64 [H, W], frequency 0 in the middle.
        originals_power: the same of the originals.
        feature_titles: who learned the features, str [P].
        feature_labels: of the test images, int32 [M].
        features: their principal components, float32 [P, M, D]; 0 beyond those that a network has.
    """

    index: np.ndarray
    labels: np.ndarray
    originals: np.ndarray
    released: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    noise_power: np.ndarray
    originals_power: np.ndarray
    feature_titles: np.ndarray
    feature_labels: np.ndarray
    features: np.ndarray


def gather(
    originals: np.ndarray, released: np.ndarray, labels: np.ndarray, feature_labels: np.ndarray,
    learned: dict[str, np.ndarray],
) -> Evidence:  # fmt: skip
    """The evidence of a release.

    Args:
        originals: uint8 [N, H, W, C].
        released: uint8 [N, H, W, C].
        labels: int [N].
        feature_labels: int [M], see `ugejax.evaluation.features.learned_features`.
        learned: float32 [M, D] of each title, likewise.
    """
    quality = measure_quality(released, originals)
    order = np.argsort(quality.psnr, kind="stable")
    first = [int(np.argmax(labels == label)) for label in np.unique(labels)[:_CLASSES]]
    index = np.array([order[0], order[(len(order) - 1) // 2], *first])
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(originals), _CHUNK)]
    noise = sum(_power(released[c].astype(np.float64) - originals[c]) for c in chunks)
    natural = sum(_power(originals[c].astype(np.float64)) for c in chunks)
    count = len(originals) * originals.shape[-1]
    width = max((features.shape[1] for features in learned.values()), default=0)
    features = [np.pad(own, ((0, 0), (0, width - own.shape[1]))) for own in learned.values()]
    return Evidence(
        index, labels[index], originals[index], released[index], quality.psnr[index], quality.ssim[index],
        np.fft.fftshift(noise / count), np.fft.fftshift(natural / count), np.array(list(learned), dtype=str),
        feature_labels, np.reshape(features, (len(features), len(feature_labels), width)),
    )  # fmt: skip


def _power(levels: np.ndarray) -> np.ndarray:
    """Power of images in grey levels [B, H, W, C], summed over images and channels: float64 [H, W]."""
    return (np.abs(np.fft.fft2(levels / 255, axes=(1, 2), norm="ortho")) ** 2).sum(axis=(0, 3))


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Write it to an .npz file, whole or not at all."""
    with replaced(path) as file:
        np.savez_compressed(
            file, **{field.name: getattr(evidence, field.name) for field in dataclasses.fields(Evidence)}
        )


def read_evidence(path: Path) -> Evidence | None:
    """What was written; None where there is none, as an evaluation of an earlier version left none.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with np.load(path) as arrays:
            return Evidence(**{field.name: arrays[field.name] for field in dataclasses.fields(Evidence)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); evaluate again") from error
