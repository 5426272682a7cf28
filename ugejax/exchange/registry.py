"""The forms of exchange by name: a new one is one file beside this one and one line in `EXCHANGE_FORMS`."""

import difflib

from ugejax.errors import UserError
from ugejax.exchange.emn import EMN, EMN_CLASS
from ugejax.exchange.form import Form
from ugejax.exchange.hf import HF
from ugejax.exchange.npy import NPY
from ugejax.exchange.npz import NPZ
from ugejax.exchange.png import PNG
from ugejax.exchange.rem import REM

EXCHANGE_FORMS: dict[str, Form] = {
    "png": PNG,
    "hf": HF,
    "npz": NPZ,
    "npy": NPY,
    "emn": EMN,
    "emn-class": EMN_CLASS,
    "rem": REM,
}


def find_form(name: str, argument: str) -> Form:
    """The form of that name.

    Args:
        name: a key of `EXCHANGE_FORMS`.
        argument: the argument that the user wrote it for, such as "KIND".

    Raises:
        UserError: there is none.
    """
    if name not in EXCHANGE_FORMS:
        close = difflib.get_close_matches(name, EXCHANGE_FORMS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"{argument}: unknown {name!r}: {hint}choose one of {', '.join(EXCHANGE_FORMS)}")
    return EXCHANGE_FORMS[name]
