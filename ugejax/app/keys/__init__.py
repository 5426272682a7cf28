"""Keys on disk: the private folder of a key, and which releases it has made; `handing` has keys on their way."""

from ugejax.app.keys.folder import (
    build_authorized,
    has_passphrase,
    public_part,
    read_key,
    seal_of,
    set_passphrase,
    write_key,
)
from ugejax.app.keys.record import Made, check_key_is_free, record_release, releases_of

__all__ = [
    "Made",
    "build_authorized",
    "check_key_is_free",
    "has_passphrase",
    "public_part",
    "read_key",
    "record_release",
    "releases_of",
    "seal_of",
    "set_passphrase",
    "write_key",
]
