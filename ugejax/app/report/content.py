"""What a report says, in words and figures that its page and its text share."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from ugejax.app.report.evidence import Evidence, read_evidence
from ugejax.countermeasures import COUNTERMEASURES
from ugejax.errors import UserError
from ugejax.evaluation import DISTILLATIONS
from ugejax.evaluation.results import HACKERS

# Countermeasures that estimate the perturbation from the release: what a hacker does who knows the method.
ADAPTIVE = (
    "class-dictionary", "class-means", "class-spectra", "exact-word", "gradient-projection", "key-recovery",
    "learned-purifier", "matched-pattern", "orthogonal-projection", "overlaid-codes", "spectrum-notch",
)  # fmt: skip
HEAD = (
    "who trains, and how",
    "on originals",
    "on the release",
    "95\u00a0% interval",
    "share",
    "peak",
    "relabelled",
    "epochs",
)
IMAGE_ROLES = ("lowest PSNR of all", "median PSNR")
NOT_RECORDED = (
    "Not recorded by this evaluation. Give the same `ugejax evaluate` once more: its cache keeps scores, and "
    "networks whose features or answers it lacks are trained again."
)
TABLE_NOTES = (
    "on originals: the clean control, the same training with the same countermeasure on the originals",
    "share: accuracy on the release over that of the control",
    "peak: the best epoch on the release, where a hacker with clean test images can stop",
    "relabelled: on the release, under the best one-to-one map of the network's answers to the classes",
)
FEATURES = (
    "Penultimate features of clean test images after training without countermeasure, laid out by t-SNE. Where "
    "classes lie apart, the features tell them apart; the network may still give them wrong names. Distances between "
    "clusters mean nothing."
)
NO_FEATURES = "No network was trained without countermeasure."


@dataclass(frozen=True)
class Group:
    """Rows of `results.json` that differ in their seed alone; accuracies are means over the seeds.

    Attributes:
        role: "authorized", "hacker", "wrong_key" or "distilled".
        network: who trains.
        countermeasure: how.
        clean: accuracy trained on the originals, with the same countermeasure.
        protected: accuracy trained on the release.
        low: of its 95 % interval.
        high: of its 95 % interval.
        spread: lowest and highest over the seeds.
        peak: best accuracy of any epoch on the release.
        relabelled: on the release, under the best map of answers to classes; None where nobody looked.
        backbone: accuracy of an authorized network without its secret part, trained on the originals.
        epochs: of the training.
        seeds: how many.
        curves: accuracy by epoch on the originals and on the release, of each seed.
    """

    role: str
    network: str
    countermeasure: str
    clean: float
    protected: float
    low: float
    high: float
    spread: tuple[float, float]
    peak: float
    relabelled: float | None
    backbone: float | None
    epochs: int
    seeds: int
    curves: tuple[tuple[list[float], list[float]], ...]

    @property
    def title(self) -> str:
        """Who trains and how."""
        plain = self.countermeasure == "none"
        return f"{self.role.replace('_', ' ')} {self.network}" + ("" if plain else f", {self.countermeasure}")

    @property
    def share(self) -> float:
        """What the release leaves of the accuracy on the originals."""
        return self.protected / self.clean if self.clean else float("nan")


@dataclass(frozen=True)
class Content:
    """A report.

    Attributes:
        title: what was protected.
        verdict: what came of it, in a few sentences.
        uncertainty: what its intervals mean.
        facts: what was protected and how, names and values.
        settings: every setting of the method, names and values.
        groups: the authorized network, the hackers without countermeasure, then those with one that got the most.
        chance: accuracy of guessing.
        limits: what a reader has to know before relying on it.
        class_names: of the images.
        levels: largest change of any image in grey levels.
        evidence: images, spectra and features; None where the evaluation left none.
    """

    title: str
    verdict: str
    uncertainty: str
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    chance: float | None
    limits: tuple[str, ...]
    class_names: tuple[str, ...]
    levels: int
    evidence: Evidence | None


def read_content(run: Path) -> Content:
    """The report of the folder of an evaluation.

    Raises:
        UserError: it holds no evaluation, or a damaged one.
    """
    file = run / "results.json"
    try:
        results = json.loads(file.read_text())
        return make_content(results, read_evidence(run / "evidence.npz"))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{file}: not there; give the folder that `ugejax evaluate` made") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the results of an evaluation ({error!r})") from error


def make_content(results: dict[str, Any], evidence: Evidence | None) -> Content:
    """The report of what `results.json` holds."""
    card = results.get("card", {})
    groups = group_rows(results["rows"], results["n_test"])
    names = tuple(card.get("class_names", ()))
    chance = 1 / len(names) if names else None
    return Content(
        title=f"{results['dataset']}, protected by {card.get('method', 'an unknown method')}",
        verdict=verdict(groups, results["summary"], chance),
        uncertainty=_uncertainty(results["n_test"], max((group.seeds for group in groups), default=1)),
        facts=tuple(_facts(results, card)),
        settings=tuple((name.replace("_", " "), _plain(value)) for name, value in card.get("settings", {}).items()),
        groups=groups,
        chance=chance,
        limits=tuple(_limits(results, card, groups, evidence)),
        class_names=names,
        levels=results["realised_linf"],
        evidence=evidence,
    )


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval ("Probable inference", 1927) of an accuracy on n test images."""
    from scipy.stats import binomtest  # imported late: a second to load

    found = binomtest(round(accuracy * n), n).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def group_rows(rows: Iterable[dict[str, Any]], n_test: int) -> tuple[Group, ...]:
    """The rows of an evaluation on n_test images as groups, in the order of a report."""
    named: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        named.setdefault((row["role"], row["network"], row["countermeasure"]), []).append(row)
    groups = []
    for (role, network, countermeasure), members in named.items():
        scores = [row["protected_accuracy"] for row in members]
        # A student that learned from half of the test images was scored on the others.
        asked = DISTILLATIONS.get(countermeasure) if role == "distilled" else None
        low, high = interval(mean(scores), n_test // 2 if asked is not None and asked.own_images else n_test)
        backbones = [row["backbone_accuracy"] for row in members if row.get("backbone_accuracy") is not None]
        renamed = [found for row in members if (found := row.get("protected_relabelled_accuracy")) is not None]
        curves = tuple((row["by_epoch"]["clean"], row["by_epoch"]["protected"]) for row in members if "by_epoch" in row)
        groups.append(
            Group(
                role, network, countermeasure, mean(row["clean_accuracy"] for row in members), mean(scores), low, high,
                (min(scores), max(scores)), mean(row["protected_peak_accuracy"] for row in members),
                mean(renamed) if renamed else None, mean(backbones) if backbones else None, members[0]["epochs"],
                len(members), curves,
            )
        )  # fmt: skip
    order = {role: place for place, role in enumerate(("authorized", *HACKERS, "fights", "distilled"))}

    def place(group: Group) -> tuple:
        fights = group.countermeasure != "none" and group.role in HACKERS
        return (order["fights"] if fights else order.get(group.role, len(order)), -group.share if fights else 0.0)

    return tuple(sorted(groups, key=place))


def verdict(groups: tuple[Group, ...], summary: dict[str, Any], chance: float | None) -> str:
    """What came of it, in a few sentences, with its uncertainty."""
    sentences = []
    kept = next((group for group in groups if (group.role, group.countermeasure) == ("authorized", "none")), None)
    if kept is not None:
        part = f"The partner, who holds the key, gets an accuracy of {_with_interval(kept)} from the release"
        if kept.backbone is not None:
            part += f"; the same network without its secret part gets {kept.backbone:.3f} from the originals"
        sentences.append(f"{part}.")
    best = next(
        (
            group
            for group in groups
            if (group.role, group.network, group.countermeasure)
            == tuple(summary[f"worst_hacker_{name}"] for name in ("role", "network", "countermeasure"))
        ),
        None,
    )
    if best is not None:
        if (average := summary["mean_hacker"]) is not None:
            sentences.append(f"Hackers without countermeasure get {average:.3f} on average.")
        how = "without countermeasure" if best.countermeasure == "none" else f"with {best.countermeasure}"
        sentences.append(
            f"The best of all hackers, {best.role.replace('_', ' ')} {best.network} {how}, gets "
            f"{_with_interval(best)}, and {best.clean:.3f} from the originals."
        )
    if not sentences:
        sentences.append("Nobody trained on the release.")
    if chance is not None:
        sentences.append(f"Guessing gives {chance:.3f}.")
    return " ".join(sentences)


def table_cells(group: Group) -> tuple[str, ...]:
    """A line of the table of accuracies, below `HEAD`."""
    spread = f" (seeds {group.spread[0]:.3f} to {group.spread[1]:.3f})" if group.seeds > 1 else ""
    return (
        group.title, f"{group.clean:.3f}", f"{group.protected:.3f}", f"{group.low:.3f} to {group.high:.3f}{spread}",
        f"{group.share:.2f}", f"{group.peak:.3f}",
        "-" if group.relabelled is None else f"{group.relabelled:.3f}", str(group.epochs),
    )  # fmt: skip


def images_note(content: Content) -> str:
    """What the pictures are."""
    return (
        "From left to right: the original, what is released of it, and the difference, in which grey is no change and "
        f"black and white are {content.levels} grey levels less and more."
    )


def image_title(content: Content, evidence: Evidence, place: int) -> str:
    """What one of the shown images is."""
    role = f"{IMAGE_ROLES[place]}: " if place < len(IMAGE_ROLES) else ""
    psnr = f"PSNR {evidence.psnr[place]:.1f} dB" if np.isfinite(evidence.psnr[place]) else "unchanged"
    label = content.class_names[evidence.labels[place]]
    return f"{role}class {label}, image {evidence.index[place]}, {psnr}, SSIM {evidence.ssim[place]:.2f}"


def _with_interval(group: Group) -> str:
    return f"{group.protected:.3f} (95\u00a0%: {group.low:.3f} to {group.high:.3f})"


def _uncertainty(n_test: int, seeds: int) -> str:
    text = f"Accuracies are fractions of {n_test} clean test images; intervals are Wilson's for that many images. "
    if seeds == 1:
        return text + "Every network was trained once: they do not show how much trainings differ."
    return text + f"Each row is the mean over {seeds} trainings; the table gives their lowest and highest beside it."


def _facts(results: dict[str, Any], card: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if not card:
        yield "release", f"{results['release']} ({NOT_RECORDED[0].lower()}{NOT_RECORDED[1:]})"
        return
    shape = "x".join(str(side) for side in card["image_shape"])
    yield "images", f"{card['n']} of {shape}, {len(card['class_names'])} classes; source {results['dataset']}"
    yield "clean test images", str(results["n_test"])
    yield "method", card["method"]
    if authorized := card.get("authorized"):
        step = "" if authorized.get("step") is None else f", quantiser step {authorized['step']}"
        yield "authorized network", f"{authorized['network']}, {authorized['form']}{step}"
        exact = "exactly the same of" if authorized["exact_blind_set"] else "nearly the same gradients from"
        yield "what it sees", f"{exact} release and originals"
    linf = card["norm"] == "linf"
    yield "budget", f"{255 * card['eps']:.4g}/255 (L-infinity)" if linf else f"{card['eps']:.4g} (L2)"
    realised = card["realised_eps"]
    yield "largest change", f"{realised['linf_levels']} of 255 grey levels, L2 norm {realised['l2_max']:.3g}"
    psnr, ssim = card["psnr"], card["ssim"]
    if psnr["mean"] is not None:
        yield "PSNR", f"{psnr['mean']:.1f} dB on average, {psnr['min']:.1f} dB at worst"
    yield "SSIM", f"{ssim['mean']:.3f} on average, {ssim['min']:.3f} at worst"
    if card["untouched_images"]:
        yield "unchanged images", str(card["untouched_images"])
    # Of a card that came from elsewhere what is of another kind is left alone.
    for field, title in (("left_out", "left out of the source"), ("unused_splits", "splits that are not in it")):
        found = card.get(field)
        if isinstance(found, dict) and found:
            yield title, ", ".join(f"{count} {name}" for name, count in found.items())
    yield "public seed", str(card["seed"])
    yield "made with", ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    yield "evaluated on", results["backend"]


def _limits(
    results: dict[str, Any], card: dict[str, Any], groups: tuple[Group, ...], evidence: Evidence | None
) -> Iterable[str]:
    if evidence is not None:
        yield f"This page shows {len(np.unique(evidence.index))} of the originals: keep it where they may be seen."
    hackers = [group for group in groups if group.role in HACKERS]
    adaptive = [group for group in hackers if set(group.countermeasure.split("+")) & set(ADAPTIVE)]
    if adaptive:
        most = max(adaptive, key=lambda group: group.protected)
        yield (
            f"A hacker who knows the method and estimates the perturbation from the release got {most.protected:.3f} "
            f"({most.network}, {most.countermeasure}), where the originals give {most.clean:.3f}."
        )
    else:
        yield (
            "No hacker who knows the method was evaluated, so what one gets is unknown here. Countermeasures that know "
            f"it: {', '.join(ADAPTIVE)}."
        )
    yield from card.get("limits", ())
    if card.get("key_from_seed"):
        yield "The key follows from a seed: whoever guesses the seed has it."
    peak = max(
        (group for group in hackers if _on_release(group) and group.peak > group.protected),
        key=lambda group: group.peak,
        default=None,
    )
    if peak is not None:
        yield f"A hacker who stops early, by clean images of his own, gets more: up to {peak.peak:.3f} ({peak.title})."
    if len(results["rows"]) and not any(group.countermeasure != "none" for group in hackers):
        yield "No countermeasure was evaluated: these hackers train on the release as it is."


def _on_release(group: Group) -> bool:
    parts = (COUNTERMEASURES.get(name) for name in group.countermeasure.split("+"))
    return all(part is None or part.needs_release for part in parts)


def _plain(value: Any) -> str:
    """A setting for people."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
