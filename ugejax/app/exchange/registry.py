"""The forms of exchange by name: a new one is one file beside this one and one line in `EXCHANGE_FORMS`."""

from ugejax.app.exchange.emn import EMN, EMN_CLASS
from ugejax.app.exchange.form import Form
from ugejax.app.exchange.hf import HF
from ugejax.app.exchange.npy import NPY
from ugejax.app.exchange.npz import NPZ
from ugejax.app.exchange.png import PNG
from ugejax.app.exchange.rem import REM
from ugejax.registry import Registry

EXCHANGE_FORMS: Registry[Form] = Registry(
    "form of exchange",
    {
        "png": PNG,
        "hf": HF,
        "npz": NPZ,
        "npy": NPY,
        "emn": EMN,
        "emn-class": EMN_CLASS,
        "rem": REM,
    },
)
