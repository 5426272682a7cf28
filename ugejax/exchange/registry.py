"""The forms of exchange by name: a new one is one file beside this one and one line in `EXCHANGE_FORMS`."""

from ugejax.exchange.emn import EMN, EMN_CLASS
from ugejax.exchange.form import Form
from ugejax.exchange.hf import HF
from ugejax.exchange.npy import NPY
from ugejax.exchange.npz import NPZ
from ugejax.exchange.png import PNG
from ugejax.exchange.rem import REM
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
