"""`ugejax key identity`, `send` and `receive`: a key to a partner, encrypted to his public key."""

import argparse
from pathlib import Path

from ugejax.app.cli.opening import given_passphrase, open_key
from ugejax.app.cli.releasing import check_no_release
from ugejax.app.files import private, published, synced
from ugejax.app.keys import build_authorized, record_release, releases_of, write_key
from ugejax.app.keys.handing import decrypted_key, encrypted_key, new_identity
from ugejax.app.seal import check_passphrase
from ugejax.errors import UserError

# Bytes of a file of identities: more is another file than was meant.
_LONGEST = 2**16


def run(arguments: argparse.Namespace) -> int:
    """Do one of the three and say what comes next."""
    {"identity": make_identity, "send": send, "receive": receive}[arguments.action](arguments)
    return 0


def make_identity(arguments: argparse.Namespace) -> None:
    """Write a new identity, as `age-keygen` does, and print its public key."""
    check_no_release(arguments.out)
    identity, public = new_identity()
    _write(arguments.out, f"# public key: {public}\n{identity}\n".encode())
    print(f"{arguments.out}: keep it private; give the owner of the key your public key")
    print(public)


def send(arguments: argparse.Namespace) -> None:
    """Encrypt a key to public keys."""
    key = open_key(arguments.key, arguments.passphrase_file)
    arrays, releases = build_authorized(key, arguments.key).arrays, releases_of(arguments.key)
    content = encrypted_key(key, arrays, arguments.to, releases)
    check_no_release(arguments.out)
    _write(arguments.out, content)
    print(f"{arguments.out}: key {key.fingerprint}; `ugejax key receive` makes the key of it, with the identity alone")


def receive(arguments: argparse.Namespace) -> None:
    """Make a key folder of what was sent."""
    passphrase = given_passphrase(arguments.passphrase_file)
    if passphrase is not None:
        check_passphrase(passphrase)
    check_no_release(arguments.out)
    key, arrays, releases = decrypted_key(_read(arguments.file), _identities(arguments.identity), arguments.file)
    write_key(arguments.out, key, arrays, passphrase)
    for made in releases:
        record_release(arguments.out, made)
    print(f"key {arguments.out}: fingerprint {key.fingerprint}; ask the owner whether it is his; keep it private")


def _write(path: Path, content: bytes) -> None:
    with private(), published(path) as partial, synced(partial) as file:
        file.write(content)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UserError(f"{path}: not a file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _identities(path: Path) -> list[str]:
    """The lines of a file of identities, without comments."""
    content = _read(path)
    try:
        lines = content[:_LONGEST].decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"--identity {path}: is no text") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
