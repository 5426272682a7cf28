"""The columns of a table of trainings: named groups of countermeasures, by worth, and what stands beside each."""

from ugejax.countermeasures import countermeasure_of, parse_countermeasures
from ugejax.errors import UserError
from ugejax.registry import split_names

# What published tables compare methods by. A method is judged by the worse of `EITHER`, which counts as one column.
EITHER = ("class-means", "orthogonal-projection")
FIELD = ("none", "grey", "jpeg-10", *EITHER, "cutmix", "bdr", "ueraser-lite")
# Hackers of today, of whom some know the method or hold originals. One who renames his answers is in every row.
TODAY = (
    "learned-purifier", "leaked-pairs-500", "class-means-oracle", "fgsm-rs", "pretrained", "channel-least-code", "coin",
    "recovery-1", "leaked-pairs-50", "channel-normalise", "histogram-equalise", "channel-red-minus-green",
)  # fmt: skip
GROUPS = {"field": FIELD, "today": TODAY}


def parse_columns(names: str) -> tuple[str, ...]:
    """A comma-separated list of countermeasures and of names in `GROUPS`, checked; each comes once.

    Raises:
        UserError: a name is unknown, they do not go together, or one trains several networks.
    """
    chosen = [one for name in split_names(names) for one in GROUPS.get(name, (name,))]
    columns = tuple(dict.fromkeys(parse_countermeasures(",".join(chosen))))
    if several := [name for name in columns if countermeasure_of(name).members > 1]:
        raise UserError(f"{several[0]}: trains several networks, and a row is of one training")
    return columns


def control_of(countermeasure: str) -> str:
    """The countermeasure of the control on originals.

    Who subtracts what a release has beyond the originals leaves these as they are.
    """
    others = [name for name in countermeasure.split("+") if name != "class-means-oracle"]
    return "+".join(others) or "none"


def judged(by_column: dict[str, float]) -> dict[str, float]:
    """Accuracies on the release by the columns of `FIELD` that are there, with the worse of `EITHER` for both.

    Args:
        by_column: accuracies by countermeasure.
    """
    known = {name: by_column[name] for name in FIELD if name in by_column}
    either = {name: known.pop(name) for name in EITHER if name in known}
    if either:
        worse = max(either, key=lambda name: either[name])
        known[worse] = either[worse]
    return known


JUDGED = len(FIELD) - len(EITHER) + 1  # columns of a whole row of `judged`
