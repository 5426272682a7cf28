"""Authorized networks: a frozen secret view, a backbone, which weights train; and the key that they follow from."""

from ugejax.authorized.key import Key, draw_master, new_key
from ugejax.authorized.network import AuthorizedNetwork, draw_authorized, secret_words, seen

__all__ = ["AuthorizedNetwork", "Key", "draw_authorized", "draw_master", "new_key", "secret_words", "seen"]
