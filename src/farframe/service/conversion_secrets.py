"""Signatures at rest: sealed with a key that is in no database, so that jobs survive a restart and copies of the
database open no storage.

The key is the file ``conversion-key`` in the data folder, or what ``conversion_key_file`` names: services that share a
database share the key, too, if they are to take over each other's jobs.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE_NAME = "conversion-key"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyFileError(Exception):
    """The file holds no key."""


class SealError(Exception):
    """What is sealed was sealed with another key, or is damaged."""


class Signatures(msgspec.Struct, frozen=True):
    """A request's signatures, either of them perhaps empty."""

    input_sas: str
    output_sas: str

    def __repr__(self) -> str:
        return "Signatures(***)"


class Sealer:
    """Seals (AES-256 in GCM) and opens signatures, each bound to its job."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of_file(cls, path: Path, *, create: bool) -> Sealer:
        """The sealer with a file's key; ``create`` makes the file where there is none. Raises KeyFileError."""
        try:
            text = path.read_text("ascii")
        except FileNotFoundError:
            if not create:
                raise KeyFileError(f"There is no key file {path}.") from None
            text = base64.b64encode(os.urandom(_KEY_BYTES)).decode()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{text}\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"The key file {path} cannot be read.") from error
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != _KEY_BYTES:
            raise KeyFileError(f"The key file {path} must hold {_KEY_BYTES} bytes in Base64.")
        return cls(key)

    def seal(self, job: str, signatures: Signatures) -> bytes:
        """Bytes that tell nothing without the key."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, msgspec.json.encode(signatures), job.encode("ascii"))

    def open(self, job: str, sealed: bytes) -> Signatures:
        """What was sealed for that job. Raises SealError."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], job.encode("ascii"))
            return msgspec.json.decode(plain, type=Signatures)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            raise SealError from None
