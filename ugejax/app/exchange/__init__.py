"""Exchange with the field's other tools: protected sets as they publish them, read and written without running them."""

from ugejax.app.exchange.checks import check_protected
from ugejax.app.exchange.form import Exported, Form, Imported
from ugejax.app.exchange.labels import check_labels, read_labels
from ugejax.app.exchange.registry import EXCHANGE_FORMS

__all__ = [
    "EXCHANGE_FORMS",
    "Exported",
    "Form",
    "Imported",
    "check_labels",
    "check_protected",
    "read_labels",
]
