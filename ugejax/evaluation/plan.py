"""The plan of an evaluation: its rows, and the trials that each row needs."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from ugejax.authorized import AuthorizedNetwork, Key
from ugejax.countermeasures import COUNTERMEASURES, Countermeasure, HackerData, countermeasure_of
from ugejax.countermeasures.hacker_data import Pairs
from ugejax.countermeasures.purifier import purified
from ugejax.data import Dataset
from ugejax.data.dataset import stratified_subset
from ugejax.errors import UserError
from ugejax.evaluation.answers import answers_of
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.candidates import (
    DEFAULT_HACKERS,
    OTHER_INIT,
    Candidate,
    authorized,
    hacker,
    hackers,
    with_batch_norm,
)
from ugejax.evaluation.distillation import DISTILLATIONS, student_labels
from ugejax.evaluation.ensemble import Ensemble
from ugejax.evaluation.fitted import Fitted
from ugejax.evaluation.own_release import STRANGER, Imitation, own_pairs
from ugejax.evaluation.trial import Phase, Trial, epochs_of
from ugejax.networks.weights import Weights

# What the authorized side does as well: it augments, but has no reason to fight the release.
AUTHORIZED_COUNTERMEASURES = ("none", "crop-flip")


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes:
        originals: training images before protection.
        released: uint8 [N, H, W, C], the same after it.
        test: clean test images.
        key: the key, None to leave the authorized side and the wrong key out.
        network: the authorized network of the key, for the release.
        hackers: names of networks, with "-other-init" for a second initialisation; "wrong-key" for the authorized
            architecture with another secret.
        countermeasures: names for `ugejax.countermeasures.countermeasure_of`.
        epochs: epochs without augmentation; None for each network's own.
        seeds: one trial of each row for each of them.
        distillations: names in `DISTILLATIONS`; the students are the hackers of another architecture than the key's.
        purifier: what the countermeasure of that name does, see `ugejax.countermeasures.purifier`.
        batch_size: images a step at most, where a recipe has more; None leaves the recipes alone.
        init: weights of networks, by name, that the countermeasure pretrained begins with, see `read_weights`.
        imitation: protects a hacker's own images as the release was made, see `ugejax.app.imitation`; None where nobody
            knows.
        own: natural images of any classes that such a hacker protects; None takes the test images.

    Raises:
        UserError: a countermeasure lacks its function or the release's method, or one of the hackers cannot apply it.
    """

    originals: Dataset
    released: np.ndarray
    test: Dataset
    key: Key | None
    network: AuthorizedNetwork | None
    hackers: tuple[str, ...] = DEFAULT_HACKERS
    countermeasures: tuple[str, ...] = ("none",)
    epochs: int | None = None
    seeds: Sequence[int] = (0,)
    distillations: tuple[str, ...] = ()
    purifier: Callable[[np.ndarray], Any] | None = None
    batch_size: int | None = None
    init: Mapping[str, Weights] = field(default_factory=dict)
    imitation: Imitation | None = None
    own: Dataset | None = None

    @property
    def recipes(self) -> dict[str, Any]:
        """What changes the recipes of all candidates."""
        return {"epochs": self.epochs, "batch_size": self.batch_size}

    def __post_init__(self):
        """Refuse at once what would fail after hours of training."""
        if self.purifier is None and any("purifier" in name.split("+") for name in self.countermeasures):
            raise UserError("purifier needs `purifier`, a function", argument="countermeasures")
        for name in self.countermeasures:
            begun = [network.removesuffix(OTHER_INIT) for network in self.hackers if network != "wrong-key"]
            if countermeasure_of(name).pretrained and (without := sorted(set(begun) - set(self.init))):
                raise UserError(f"{name} needs weights of {', '.join(without)}", argument="init")
            if countermeasure_of(name).knows_method and self.imitation is None:
                raise UserError(
                    f"{name}: the release's card tells of no method that is known here", argument="countermeasures"
                )
            if countermeasure_of(name).aggregate is not None and (unfit := with_batch_norm(self.hackers, self.key)):
                raise UserError(
                    f"{name} takes the gradient of each image, and batch norm leaves {', '.join(unfit)} none; choose "
                    "`hackers` without, such as cnn",
                    argument="countermeasures",
                )


@dataclass(frozen=True, eq=False)
class Row:
    """One row to be: a candidate and its trials, made only when they are due.

    Attributes:
        candidate: who trains.
        countermeasure: name of it, or of the distillation.
        seed: of the row.
        clean: makes the trial on the originals.
        protected: makes the trial on the release.
        backbone: makes the trial on the originals without the secret part; None where there is none.
    """

    candidate: Candidate
    countermeasure: str
    seed: int
    clean: Callable[[], Trial | Ensemble | Fitted]
    protected: Callable[[], Trial | Ensemble | Fitted]
    backbone: Callable[[], Trial] | None = None

    @property
    def trials(self) -> list[Callable[[], Trial | Ensemble | Fitted]]:
        """All of them, in the order in which they are due."""
        return [self.clean, self.protected, *([] if self.backbone is None else [self.backbone])]


def plan(evaluation: Evaluation, cache: Cache, report: Callable[[int, int, str, int, int, float], None]) -> list[Row]:
    """All rows of an evaluation; for distillation the teachers are trained at once.

    Args:
        evaluation: what to evaluate.
        cache: of the teachers' answers and scores.
        report: as for `evaluate`.

    Raises:
        UserError: distillation lacks the key, or a hacker of another architecture.
    """
    # Teachers go first: their scores are then there for the authorized rows.
    return [*_rows(evaluation), *_distilled_rows(evaluation, cache, report)]


def _rows(evaluation: Evaluation) -> Iterator[Row]:
    released, originals, test = evaluation.released, evaluation.originals, evaluation.test
    num_classes = len(originals.class_names)

    # Made when a hacker first needs it and kept for the next, who will most often want the same pair.
    @functools.lru_cache(maxsize=2)
    def prepared(protected: bool, name: str, seed: int) -> HackerData:
        return _prepared(evaluation, protected, name, seed, pairs)

    @functools.lru_cache(maxsize=1)
    def pairs(seed: int) -> Pairs:
        assert evaluation.imitation is not None, "checked at once"
        return own_pairs(evaluation.imitation, test if evaluation.own is None else evaluation.own, seed)

    for seed in evaluation.seeds:
        for name in evaluation.countermeasures:
            countermeasure = countermeasure_of(name)
            settings: Any = {"seed": seed, "augment": countermeasure.augment} | evaluation.recipes
            if evaluation.key is not None and evaluation.network is not None and name in AUTHORIZED_COUNTERMEASURES:
                candidate = authorized(evaluation.key, evaluation.network, **settings)
                plain = replace(candidate, view=None)
                trials = [
                    functools.partial(_trial, who, images, originals.labels, test.images, test.labels)
                    for who, images in ((candidate, originals.images), (candidate, released), (plain, originals.images))
                ]
                yield Row(candidate, name, seed, *trials)
            fitted = False
            salt = evaluation.network.salt if evaluation.network is not None else None
            for candidate in hackers(evaluation.hackers, evaluation.key, num_classes, salt=salt, **settings):
                # Without a network one hacker is as good as another; a wrong key's sees through its view.
                if countermeasure.classifier is not None and candidate.view is None:
                    if fitted:
                        continue
                    fitted = True
                if countermeasure.pretrained:
                    if candidate.role == "wrong_key":  # whose weights belong behind another view
                        continue
                    candidate = replace(candidate, begins=evaluation.init[candidate.network.removesuffix(OTHER_INIT)])
                clean, protected = (
                    functools.partial(
                        _hacker_trial, candidate, countermeasure, functools.partial(prepared, release, name), seed,
                        test.labels, num_classes,
                    )
                    for release in (False, True)
                )  # fmt: skip
                yield Row(candidate, name, seed, clean, protected)


def plain_trials(evaluation: Evaluation) -> Iterator[tuple[str, Candidate, Trial]]:
    """Of the rows without countermeasure those of the authorized network and the first hacker, as titled trials."""
    if "none" not in evaluation.countermeasures:
        return
    originals, test, seed = evaluation.originals, evaluation.test, evaluation.seeds[0]
    settings: Any = {"seed": seed, "augment": ()} | evaluation.recipes
    kinds = {"release": evaluation.released, "originals": originals.images}
    named = [name for name in evaluation.hackers if name != "wrong-key"][:1]
    chosen = [
        (candidate, tuple(kinds)) for candidate in hackers(tuple(named), None, len(originals.class_names), **settings)
    ]
    if evaluation.key is not None and evaluation.network is not None:
        chosen.insert(0, (authorized(evaluation.key, evaluation.network, **settings), ("release",)))
    for candidate, on in chosen:
        for kind in on:
            trial = _trial(candidate, kinds[kind], originals.labels, test.images, test.labels)
            yield f"{candidate.role} {candidate.network}, trained on the {kind}", candidate, trial


def _prepared(
    evaluation: Evaluation, protected: bool, name: str, seed: int, pairs: Callable[[int], Pairs]
) -> HackerData:
    """What a hacker makes of the release or of the originals; `pairs` of a seed are those that he makes himself."""
    originals, test, purifier = evaluation.originals, evaluation.test, COUNTERMEASURES["purifier"]
    if evaluation.purifier is not None:
        purifier = replace(purifier, prepare=functools.partial(purified, purifier=evaluation.purifier))
    countermeasure = countermeasure_of(name, purifier=purifier)
    images, test_images = evaluation.released if protected else originals.images, test.images
    if protected and countermeasure.inference:
        assert evaluation.imitation is not None, "checked at once"
        images, test_images = originals.images, evaluation.imitation(test.images, test.labels, STRANGER)
    indices = np.zeros(0, np.int64)
    if size := countermeasure.originals_of(len(images), len(originals.class_names)):
        indices = stratified_subset(originals.labels, size, seed // countermeasure.members)  # the same for all members
    data = HackerData(
        images, originals.labels, test_images, reference=test.images, clean_images=originals.images[indices],
        clean_indices=indices, seed=seed,
        own_pairs=functools.partial(pairs, seed // countermeasure.members) if countermeasure.knows_method else None,
    )  # fmt: skip
    return countermeasure.prepared(data)


def _trial(
    candidate: Candidate, images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> Trial:
    return Trial(
        candidate.module, candidate.start(images.shape[1:]), candidate.trains, candidate.recipe,
        candidate.sees(images), labels, candidate.sees(test_images), test_labels, candidate.key,
    )  # fmt: skip


def _hacker_trial(
    candidate: Candidate, countermeasure: Countermeasure, prepared: Callable[[int], HackerData], seed: int,
    test_labels: np.ndarray, num_classes: int,
) -> Trial | Ensemble | Fitted:  # fmt: skip
    # A frozen backbone, which a wrong key may have, stays frozen.
    tuned = countermeasure.fine_tunes and ("head" if candidate.trains == "head" else countermeasure.fine_tunes)

    if countermeasure.classifier is not None:
        data = prepared(seed)
        return Fitted(
            countermeasure.classifier, candidate.sees(data.images), data.labels, candidate.sees(data.test_images),
            test_labels, seed, num_classes,
        )  # fmt: skip

    def member(place: int) -> Trial:
        data = prepared(seed if countermeasure.members == 1 else seed * countermeasure.members + place)
        trial = _trial(candidate, data.images, data.labels, data.test_images, test_labels)
        if place:
            trial = replace(trial, key=jax.random.fold_in(trial.key, place))
        if tuned is not None:
            trial = replace(trial, then=(Phase(candidate.sees(data.clean_images), data.clean_labels, tuned),))
        return replace(trial, adversary=countermeasure.adversary, aggregate=countermeasure.aggregate)

    if countermeasure.members == 1:
        return member(0)
    members = tuple(functools.partial(member, place) for place in range(countermeasure.members))
    return Ensemble(members, epochs_of(candidate.recipe, *([tuned] if tuned else [])))


def _distilled_rows(
    evaluation: Evaluation, cache: Cache, report: Callable[[int, int, str, int, int, float], None]
) -> list[Row]:
    """Students of the authorized network; their clean control is taught by the one trained on the originals."""
    if not evaluation.distillations:
        return []
    key, network, test = evaluation.key, evaluation.network, evaluation.test
    if key is None or network is None:
        raise UserError("the authorized network is the teacher, which takes its key", argument="distillations")
    students = [
        name for name in evaluation.hackers if name != "wrong-key" and name.removesuffix(OTHER_INIT) != key.network
    ]
    if not students:
        raise UserError(
            f"name a student of another architecture than {key.network} with `hackers`", argument="distillations"
        )
    # Who is taught on his own images is scored on others.
    own, unseen = test.images[::2], Dataset(test.images[1::2], test.labels[1::2], test.class_names)
    rows = []
    for seed in evaluation.seeds:
        teacher = authorized(key, network, seed=seed, augment=(), **evaluation.recipes)
        trials: dict[tuple[str, str], list[Callable[[], Trial]]] = {}
        for kind, images in (("originals", evaluation.originals.images), ("release", evaluation.released)):
            trial = _trial(teacher, images, evaluation.originals.labels, test.images, test.labels)
            title = f"teacher on {kind}"
            answers = answers_of(
                trial, (teacher.sees(images), teacher.sees(own)), cache, functools.partial(report, 0, 1, title)
            )
            for name in evaluation.distillations:
                asked = DISTILLATIONS[name]
                labels = student_labels(answers[asked.own_images], asked.temperature)
                queries, scored = (own, unseen) if asked.own_images else (images, test)
                for student in students:
                    candidate = _student(student, evaluation, seed)
                    trials.setdefault((name, student), []).append(
                        functools.partial(_trial, candidate, queries, labels, scored.images, scored.labels)
                    )
        rows += [
            Row(_student(student, evaluation, seed), name, seed, *pair) for (name, student), pair in trials.items()
        ]
    return rows


def _student(name: str, evaluation: Evaluation, seed: int) -> Candidate:
    num_classes = len(evaluation.originals.class_names)
    return replace(hacker(name, num_classes, seed=seed, augment=(), **evaluation.recipes), role="distilled")
