"""Encryption of what lies in a key's folder: AES-256-GCM by a secret that the folder holds, and that by a passphrase.

So a passphrase is given, changed or taken away in one small file, and the others stay as they are.
"""

import os
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from ugejax.app.files import private, replaced
from ugejax.errors import UserError

if TYPE_CHECKING:  # imported late: most keys have no passphrase
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HEADER = b"ugejax sealed 1\n"
_CHUNK = 2**20
_SALT, _NONCE, TAG = 16, 12, 16
HEADER_BYTES = len(_HEADER) + _SALT
# N, r and p of scrypt in version 1 of a locked secret: 128 MiB (OWASP, Password Storage Cheat Sheet).
_SCRYPT = (2**17, 8, 1)
_VERSION = 1
LEAST_PASSPHRASE = 8


@dataclass(frozen=True)
class FileCipher:
    """The cipher of one file, whose content is encrypted chunk by chunk.

    STREAM (Hoang, Reyhanitabar, Rogaway & Vizár, CRYPTO 2015): the nonce of a chunk is its number and whether it is the
    last, so that none can be left out, added or moved.
    """

    cipher: "AESGCM"

    def encrypt(self, number: int, chunk: bytes, *, last: bool) -> bytes:
        """A chunk, `TAG` bytes longer; each number is for one chunk only."""
        return self.cipher.encrypt(self._nonce(number, last), chunk, _HEADER)

    def decrypt(self, number: int, chunk: bytes, *, last: bool) -> bytes:
        """What `encrypt` made the chunk from.

        Raises:
            ValueError: it made no such chunk.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self.cipher.decrypt(self._nonce(number, last), chunk, _HEADER)
        except InvalidTag as error:
            raise ValueError("not what was encrypted") from error

    @staticmethod
    def _nonce(number: int, last: bool) -> bytes:
        return number.to_bytes(_NONCE - 1, "big") + bytes([last])


@dataclass(frozen=True)
class Seal:
    """What encrypts the files of a place below a key's folder; `seal / name` is that of a place in it.

    A file is a header, a salt and encrypted chunks. Its AES key follows (HKDF-SHA256) from the secret, the salt and the
    place, so that a file in another's place is refused.

    Attributes:
        secret: at least 16 bytes; never printed.
        place: names from the key's folder down.
        required: whether all that is added there is encrypted, and what is not is refused; otherwise nothing that is
            added is, and what is there may be either.
    """

    secret: bytes = field(repr=False)
    place: str = ""
    required: bool = True

    def __truediv__(self, name: str) -> "Seal":
        return Seal(self.secret, f"{self.place}/{name}", self.required)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a seal holds a key's secret and is never pickled")

    def check_plain(self, path: Path) -> None:
        """Refuse a file or folder that is there and is not encrypted, where all has to be.

        Raises:
            UserError: as it says; whoever can write to the folder, but has no passphrase, may have put it there.
        """
        if self.required and os.path.lexists(path):
            raise UserError(f"{path}: is not encrypted, as all of a key with a passphrase is; remove it")

    def begin(self, file: BinaryIO) -> FileCipher:
        """Write the header of a new file and give its cipher."""
        salt = secrets.token_bytes(_SALT)
        file.write(_HEADER + salt)
        return self._cipher(salt)

    def resume(self, file: BinaryIO) -> FileCipher:
        """The cipher of a file that begins here; it is at its first chunk then.

        Raises:
            ValueError: no such file begins here.
        """
        header, salt = file.read(len(_HEADER)), file.read(_SALT)
        if header != _HEADER or len(salt) != _SALT:
            raise ValueError("no sealed file")
        return self._cipher(salt)

    def write(self, path: Path, content: BinaryIO, *, chunk: int = _CHUNK) -> None:
        """Encrypt a file that can be sought in; the path gets it whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        count = max(1, -(-content.seek(0, os.SEEK_END) // chunk))
        content.seek(0)
        with private(), replaced(path, otherwise="move the key to another place") as file:
            cipher = self.begin(file)
            for number in range(count):
                file.write(cipher.encrypt(number, content.read(chunk), last=number == count - 1))

    def read(self, path: Path) -> bytes:
        """What `write` encrypted.

        Raises:
            UserError: it was changed, is of another place or key, or cannot be read.
        """
        content, number = bytearray(), 0
        try:
            with open(path, "rb") as file:
                cipher = self.resume(file)
                chunk = file.read(_CHUNK + TAG)
                while chunk or not number:  # of nothing, too, there is one chunk
                    following = file.read(_CHUNK + TAG)
                    content += cipher.decrypt(number, chunk, last=not following)
                    chunk, number = following, number + 1
        except ValueError as error:
            raise UserError(f"{path}: is damaged, or of another key") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
        return bytes(content)

    def _cipher(self, salt: bytes) -> FileCipher:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = _HEADER + self.place.encode()
        return FileCipher(AESGCM(HKDF(SHA256(), 32, salt=salt, info=info).derive(self.secret)))


def check_passphrase(passphrase: str) -> None:
    """Refuse a new passphrase of less than 8 characters (NIST SP 800-63B, 5.1.1.2).

    Raises:
        UserError: it is one; those that keys have already are taken as they are.
    """
    if len(unicodedata.normalize("NFC", passphrase)) < LEAST_PASSPHRASE:
        raise UserError(f"a new passphrase has at least {LEAST_PASSPHRASE} characters; several words are better")


def lock(secret: bytes, passphrase: str, associated: str) -> dict[str, Any]:
    """A secret encrypted by a passphrase (scrypt, AES-256-GCM), as JSON has it.

    Args:
        secret: what to encrypt.
        passphrase: characters that look the same are the same (Unicode's form NFC).
        associated: text without which it is not decrypted either.

    Raises:
        UserError: the passphrase is too short, see `check_passphrase`.
    """
    check_passphrase(passphrase)
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    ciphertext = _by_passphrase(passphrase, salt).encrypt(nonce, secret, associated.encode())
    described = {"salt": salt, "nonce": nonce, "ciphertext": ciphertext}
    return {"version": _VERSION, **{name: value.hex() for name, value in described.items()}}


def unlock(locked: dict[str, Any], passphrase: str, associated: str) -> bytes | None:
    """The secret that `lock` encrypted; None where one of the three was another.

    Raises:
        KeyError, TypeError, ValueError: it is not what `lock` made, or a later version did.
    """
    from cryptography.exceptions import InvalidTag

    if locked["version"] != _VERSION:
        raise ValueError(f"version {locked['version']} of the encryption, this is {_VERSION}")
    salt, nonce, ciphertext = (bytes.fromhex(locked[name]) for name in ("salt", "nonce", "ciphertext"))
    try:
        return _by_passphrase(passphrase, salt).decrypt(nonce, ciphertext, associated.encode())
    except InvalidTag:
        return None


def _by_passphrase(passphrase: str, salt: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    n, r, p = _SCRYPT
    # A byte that is no text in the user's encoding stays the byte: an error would show what was typed.
    text = unicodedata.normalize("NFC", passphrase).encode(errors="surrogateescape")
    return AESGCM(Scrypt(salt, 32, n=n, r=r, p=p).derive(text))
