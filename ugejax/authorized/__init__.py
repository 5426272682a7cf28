"""Authorized networks: a frozen secret view, a backbone, which weights train; and the key folder that holds them."""

from ugejax.authorized.forms import FORMS, Form, default_step
from ugejax.authorized.key import Key, draw_master, new_key, read_key, write_key
from ugejax.authorized.network import AuthorizedNetwork, build_authorized, seen
from ugejax.authorized.view import IdentityView, View

__all__ = [
    "FORMS",
    "AuthorizedNetwork",
    "Form",
    "IdentityView",
    "Key",
    "View",
    "build_authorized",
    "default_step",
    "draw_master",
    "new_key",
    "read_key",
    "seen",
    "write_key",
]
