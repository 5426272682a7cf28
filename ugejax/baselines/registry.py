"""The baselines by name: a new one is one file beside this one and one line in `BASELINES`."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ugejax.baselines.ar import AR
from ugejax.baselines.cuda import CUDA
from ugejax.baselines.dune import DUNE, DUNE_LINF
from ugejax.baselines.em import EM, EM_CLASS
from ugejax.baselines.hypo import HYPO
from ugejax.baselines.learnability_lock_conv import LEARNABILITY_LOCK_CONV
from ugejax.baselines.learnability_lock_linear import LEARNABILITY_LOCK_LINEAR
from ugejax.baselines.lsp import LSP
from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.ntga import NTGA
from ugejax.baselines.ops import OPS
from ugejax.baselines.pil import PIL
from ugejax.baselines.random_noise import RANDOM, RANDOM_CLASS
from ugejax.baselines.rem import REM
from ugejax.baselines.sem import SEM
from ugejax.baselines.sep import SEP
from ugejax.baselines.tap import TAP
from ugejax.errors import UserError
from ugejax.registry import Registry
from ugejax.transforms import parse_transforms

BASELINES: Registry[BaselineMethod] = Registry(
    "baseline",
    {
        "em": EM,
        "em-class": EM_CLASS,
        "rem": REM,
        "sem": SEM,
        "tap": TAP,
        "hypo": HYPO,
        "sep": SEP,
        "ntga": NTGA,
        "pil": PIL,
        "lsp": LSP,
        "ar": AR,
        "ops": OPS,
        "cuda": CUDA,
        "dune": DUNE,
        "dune-linf": DUNE_LINF,
        "learnability-lock-linear": LEARNABILITY_LOCK_LINEAR,
        "learnability-lock-conv": LEARNABILITY_LOCK_CONV,
        "random": RANDOM,
        "random-class": RANDOM_CLASS,
    },
)


def change_settings(settings: Any, assignments: Sequence[str], argument: str, *, prefix: str = "") -> Any:
    """Settings with some of their fields changed by what a user wrote.

    Args:
        settings: an instance of a baseline's settings.
        assignments: texts such as "rounds=20", one for each field; transforms are comma-separated.
        argument: name of the argument that the user wrote them for.
        prefix: what he wrote before each, such as "em.".

    Raises:
        UserError: a field is unknown, or its value is not of the field's kind or not positive.
    """
    known = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    changes = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or name not in known:
            choice = f"choose among {', '.join(known)}" if known else "this method has no settings"
            raise UserError(f"not name=value of a setting; {choice}", argument=argument, value=f"{prefix}{assignment}")
        changes[name] = _parse(text, known[name], argument, f"{prefix}{name}")
    return dataclasses.replace(settings, **changes)


def assignments_of(settings: Any) -> list[str]:
    """The texts such as "rounds=10" from which `change_settings` makes these settings."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    texts = {name: ",".join(v) or "none" if isinstance(v, tuple) else str(v) for name, v in values.items()}
    return [f"{name}={text}" for name, text in texts.items()]


def _parse(text: str, default: Any, argument: str, setting: str) -> Any:
    if isinstance(default, tuple):
        return parse_transforms(text, argument, setting)
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        kind = "a whole number of at least 1" if isinstance(default, int) else "a number above 0"
        raise UserError(f"{text!r} is not {kind}", argument=argument, value=setting)
    return value
