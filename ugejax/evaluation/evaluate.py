"""Training of all that an evaluation consists of, and a row for each pair of scores."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ugejax.errors import UserError
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.ensemble import Ensemble
from ugejax.evaluation.fitted import Fitted
from ugejax.evaluation.plan import Evaluation, Row, plan
from ugejax.evaluation.together import train_ahead, worthwhile
from ugejax.evaluation.trial import Score, Trial

Report = Callable[[int, int, str, int, int, float], None]


def evaluate(
    evaluation: Evaluation,
    cache: Cache,
    report: Report = lambda *_: None,
    found: Callable[[dict[str, Any]], None] = lambda row: None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run all trials.

    On an accelerator the networks of one architecture train together, see `ugejax.evaluation.together`; their scores
    may differ from those of networks that train alone as roundings do.

    Args:
        evaluation: what to evaluate.
        cache: keeps the scores, so that a trial that was done is not done again: `ugejax.FolderCache`.
        report: called with trials done, trials in all, what is training now, its epoch, its epochs, its accuracy.
        found: called with each row when it is there.

    Returns:
        The rows of `results.json`, and for each row its accuracy by epoch.

    Raises:
        UserError: distillation lacks the key, or a hacker of another architecture.
    """
    planned = plan(evaluation, cache, report)
    scores = _Scores(cache, sum(len(row.trials) for row in planned), report)
    begun, rows, curves = set(), [], []
    for row in planned:
        if worthwhile() and row.countermeasure not in begun:
            begun.add(row.countermeasure)
            scores.train_ahead(other for other in planned if other.countermeasure == row.countermeasure)
        clean = scores.of(row, "originals", row.clean())
        protected = scores.of(row, "release", trial := row.protected())
        rows.append(
            {
                "role": row.candidate.role,
                "network": row.candidate.network,
                "countermeasure": row.countermeasure,
                "clean_accuracy": clean.last,
                "clean_peak_accuracy": clean.peak,
                "clean_relabelled_accuracy": clean.relabelled,
                "protected_accuracy": protected.last,
                "protected_peak_accuracy": protected.peak,
                "protected_relabelled_accuracy": protected.relabelled,
                "retention": protected.last / clean.last if clean.last else None,
                "epochs": trial.epochs,
                "batch_size": row.candidate.recipe.batch_size,
                "seconds": round(clean.seconds + protected.seconds, 2),
                "seed": row.seed,
            }
        )
        if row.backbone is not None:
            rows[-1]["backbone_accuracy"] = scores.of(row, "originals without the view", row.backbone()).last
        curves.append({"clean": clean.by_epoch, "protected": protected.by_epoch})
        found(rows[-1])
    return rows, curves


class _Scores:
    """The scores of all trials of a plan, from the cache or by training, and how far that has come."""

    def __init__(self, cache: Cache, total: int, report: Report):
        self._cache, self._total, self._report = cache, total, report
        self._done = 0
        self._ahead = 0  # trained together, and not yet asked for

    def train_ahead(self, rows: Iterable[Row]) -> None:
        """Train together what can be, so that it is in the cache when it is asked for."""
        for trained in train_ahead(_single(rows), self._cache, self._tell):
            self._ahead += trained

    def of(self, row: Row, kind: str, trial: Trial | Ensemble | Fitted) -> Score:
        """The score of a row's trial on images of that kind."""
        title = f"{row.candidate.role} {row.candidate.network} {row.countermeasure} on {kind}"
        trained = False

        def after_epoch(epoch: int, epochs: int, accuracy: float) -> None:
            nonlocal trained
            trained = True
            self._tell(title, epoch, epochs, accuracy)

        try:
            result = trial.run_cached(self._cache, after_epoch)
        except UserError as error:
            raise UserError(f"{title}: {error}") from error
        if not trained:  # a log has the curve of every training, those from the cache among them
            self._ahead = max(0, self._ahead - 1)
            for epoch, accuracy in enumerate(result.by_epoch, 1):
                after_epoch(epoch, len(result.by_epoch), accuracy)
        self._done += 1
        return result

    def _tell(self, title: str, epoch: int, epochs: int, accuracy: float) -> None:
        self._report(self._done + self._ahead, self._total, title, epoch, epochs, accuracy)


def _single(rows: Iterable[Row]) -> Iterator[tuple[str, Trial]]:
    """The trials of the rows that train one network, each with the name of its network."""
    for row in rows:
        for make in row.trials:
            if isinstance(trial := make(), Trial):
                yield row.candidate.network, trial
