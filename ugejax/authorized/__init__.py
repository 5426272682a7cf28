"""Authorized networks: a frozen secret view, a backbone, which weights train; and the key folder that holds them."""

from ugejax.app.keys.record import Made, check_key_is_free, record_release, releases_of
from ugejax.authorized.key import (
    Key,
    draw_master,
    has_passphrase,
    new_key,
    public_part,
    read_key,
    set_passphrase,
    write_key,
)
from ugejax.authorized.network import AuthorizedNetwork, build_authorized, secret_words, seen

__all__ = [
    "AuthorizedNetwork",
    "Key",
    "Made",
    "build_authorized",
    "check_key_is_free",
    "draw_master",
    "has_passphrase",
    "new_key",
    "public_part",
    "read_key",
    "record_release",
    "releases_of",
    "secret_words",
    "seen",
    "set_passphrase",
    "write_key",
]
