"""Authorized forms: frozen secret views of an image, what they are blind to, and all else that depends on a form."""

from ugejax.views.content import ContentView, content_view
from ugejax.views.derive import Keystream
from ugejax.views.dither import DitherView, dither_view
from ugejax.views.form import Form
from ugejax.views.identity import IdentityView
from ugejax.views.linear import LinearView, linear_view
from ugejax.views.registry import DEFAULT_FORM, FORMS, default_step, find_form, register_form
from ugejax.views.shared import equal_anchors, share_of_budget, shared_blind_set
from ugejax.views.view import BlindSet, Export, View

__all__ = [
    "DEFAULT_FORM",
    "FORMS",
    "BlindSet",
    "ContentView",
    "DitherView",
    "Export",
    "Form",
    "IdentityView",
    "Keystream",
    "LinearView",
    "View",
    "content_view",
    "default_step",
    "dither_view",
    "equal_anchors",
    "find_form",
    "linear_view",
    "register_form",
    "share_of_budget",
    "shared_blind_set",
]
