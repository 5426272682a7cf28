"""A hacker who learns the small patterns that a class has and others have not, and takes them out of its images.

He knows nothing of the method but that the perturbation is made of something small that comes back in all images of a
class: it need not lie anywhere in particular, nor have a sign. It costs some seconds of a CPU a class.
"""

from dataclasses import replace

import numpy as np
from scipy.ndimage import maximum_filter

from ugejax.batches import at_a_time
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import natural_statistics
from ugejax.countermeasures.spectrum import ENOUGH
from ugejax.training import decode

SIDE = 4  # of an atom in pixels
ATOMS = 64  # for each class and channel
SAMPLES = 20_000  # patches of a class that they are learned from
STEPS = 15
STRONG = 2.5  # standard deviations from which on an answer counts as the atom's
EXCESS = 1.5  # times that energy of the other classes' patches which the atoms of a class have in its own
ROUNDS = 4  # of the pursuit
BATCH = 100


def subtract_class_atoms(data: HackerData) -> HackerData:
    """Subtract from every training image the atoms that are much stronger in its class than in the others.

    1. Of each image the residual, which a Wiener filter takes for noise. Of originals it is next to nothing.
    2. For each class and channel a dictionary of its patches, one atom a patch, by gain-shape k-means; Coates and Ng,
       "Learning feature representations with k-means", 2012. Where patterns have one autocorrelation, principal
       components do not tell them apart, and their random signs leave no odd moment: what is learned is which squares
       come back.
    3. The atoms whose strong answers have `EXCESS` times the energy in the class that they have in the others.
    4. A matching pursuit with these, all places at once where an answer is the largest around.

    Test images stay as they are, and so do the images of a class of fewer than `ENOUGH`.
    """
    x, labels = decode(data.images), data.labels
    present, counts = np.unique(labels, return_counts=True)
    if min(x.shape[1:3]) < SIDE or len(present) < 2:
        return data
    natural, rng = natural_statistics(decode(data.reference)), np.random.default_rng(data.seed)
    residuals, images = natural.residual(x), x.copy()
    for channel in range(x.shape[-1]):
        size = residuals[..., channel].std() + 1e-6
        planes = residuals[..., channel] / size
        patches = {label: _sample(planes[labels == label], rng) for label in present}
        for label in present[counts >= ENOUGH]:
            others = [patches[other][: max(1, SAMPLES // len(present))] for other in present if other != label]
            atoms = class_atoms(patches[label], np.concatenate(others), rng)
            if len(atoms):
                images[labels == label, ..., channel] -= size * pursued(planes[labels == label], atoms)
    return replace(data, images=images)


def class_atoms(own: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The atoms [A, d], of length 1, of patches [n, d] of a class that stand out against patches [m, d] of others."""
    atoms = dictionary(own, rng)
    ours, theirs = (np.square(np.maximum(np.abs(some @ atoms.T) - STRONG, 0)).mean(axis=0) for some in (own, others))
    return atoms[ours > EXCESS * theirs]


def dictionary(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Atoms [ATOMS, d] of length 1 of patches [n, d]: each is the mean, signed, of those that it answers most."""
    atoms = _of_length_one(patches[rng.integers(0, len(patches), ATOMS)])
    for _ in range(STEPS):
        answers = patches @ atoms.T
        best = np.abs(answers).argmax(axis=1)
        chosen = np.zeros_like(answers)
        chosen[np.arange(len(patches)), best] = answers[np.arange(len(patches)), best]
        sums = chosen.T @ patches
        atoms = np.where((sums != 0).any(axis=1, keepdims=True), _of_length_one(sums), atoms)
    return atoms


def pursued(planes: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """What atoms [A, SIDE^2] make of planes [n, H, W], by a matching pursuit of `ROUNDS` rounds: float32 [n, H, W]."""
    size = at_a_time((*planes.shape[1:], len(atoms)), most=BATCH)
    starts = range(0, len(planes), size)
    return np.concatenate([_pursued(planes[start : start + size], atoms) for start in starts])


def _pursued(planes: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    around = 2 * SIDE - 1
    left = planes.copy()
    for _ in range(ROUNDS):
        cut = np.lib.stride_tricks.sliding_window_view(left, (SIDE, SIDE), axis=(1, 2))
        answers = cut.reshape(*cut.shape[:3], -1) @ atoms.T
        best = np.abs(answers).argmax(axis=-1)
        answer = np.take_along_axis(answers, best[..., None], axis=-1)[..., 0]
        size = np.abs(answer)
        chosen = (size > STRONG) & (size >= maximum_filter(size, (1, around, around)))
        patches = (atoms[best] * np.where(chosen, answer, 0)[..., None]).reshape(*best.shape, SIDE, SIDE)
        rows, columns = best.shape[1:]
        for i, j in np.ndindex(SIDE, SIDE):
            left[:, i : i + rows, j : j + columns] -= patches[..., i, j]
    return planes - left


def _sample(planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches [SAMPLES, SIDE^2] from anywhere in planes [n, H, W]."""
    n, h, w = planes.shape
    image = rng.integers(0, n, SAMPLES)
    rows, columns = rng.integers(0, h - SIDE + 1, SAMPLES), rng.integers(0, w - SIDE + 1, SAMPLES)
    within = np.arange(SIDE)
    at = image[:, None, None], rows[:, None, None] + within[:, None], columns[:, None, None] + within
    return planes[at].reshape(SAMPLES, -1)


def _of_length_one(atoms: np.ndarray) -> np.ndarray:
    return atoms / (np.linalg.norm(atoms, axis=1, keepdims=True) + 1e-12)
