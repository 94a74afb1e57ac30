"""What makes a data folder one installation: its lock, its account, its signing keys, its connection file."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import msgspec

from farframe.auth.secrets import account_key_matches, hash_account_key, new_account_key
from farframe.auth.tokens import SigningKey, new_signing_key
from farframe.paths import connection_file_of
from farframe.service.clock import Clock
from farframe.store.accounts import PRIMARY, SigningKeyRow
from farframe.store.store import Store
from farframe.wire.ids import new_account_id

LOCK_FILE_NAME = "service.lock"
DEFAULT_ACCOUNT_NAME = "default"


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


class ConnectionFile(msgspec.Struct, kw_only=True, rename="camel"):
    """``connection.json``: how clients find this service. Holds an account key, hence mode 0600."""

    endpoint: str
    sts_endpoint: str
    http_url: str
    console_url: str
    account_id: str
    account_key: str
    account_domain: str
    ca_bundle: str
    region: str


class DataFolderLock:
    """Held as long as the service runs; the system releases it whatever way the process ends."""

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE_NAME
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            who = f" (process {holder})" if holder.isdigit() else ""
            raise StartError(
                f"Another service{who} is running on the data folder {folder}. "
                "End it, or choose another folder with --data."
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode("ascii"))

    def release(self) -> None:
        """Let others have the folder."""
        os.close(self._descriptor)


def prepare_folder(folder: Path) -> None:
    """Make the data folder, readable by its owner only. Raises :class:`StartError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StartError(
            f"The data folder {folder} cannot be used: {error.strerror}. Choose another one with --data."
        ) from None


async def ensure_account(store: Store, folder: Path, clock: Clock) -> tuple[str, str]:
    """The default account's id and its primary key. The store keeps only a digest of the key, so the connection file
    is where it is; if that is lost the account gets a new primary key.
    """
    account = await store.accounts.first()
    if account is None:
        account_id = new_account_id()
        await store.accounts.create(account_id, DEFAULT_ACCOUNT_NAME, clock.now())
    else:
        account_id = account.id
        former = await asyncio.to_thread(read_connection_file, folder)
        if former is not None and former.account_id == account_id:
            hashes = await store.accounts.key_hashes(account_id)
            if any(account_key_matches(former.account_key, kept) for kept in hashes):
                return account_id, former.account_key
    key = new_account_key()
    await store.accounts.set_key(account_id, PRIMARY, hash_account_key(key), clock.now())
    return account_id, key


async def ensure_signing_keys(store: Store, clock: Clock) -> list[SigningKey]:
    """The keys for tokens, the one to sign with first."""
    rows = await store.signing_keys.active()
    if not rows:
        key = await asyncio.to_thread(new_signing_key)
        await store.signing_keys.add(SigningKeyRow(key.key_id, key.private_pem), clock.now())
        return [key]
    return [SigningKey(row.id, row.private_pem) for row in rows]


def read_connection_file(folder: Path) -> ConnectionFile | None:
    """The connection file of an earlier run, if there is one that can be read."""
    try:
        return msgspec.json.decode(connection_file_of(folder).read_bytes(), type=ConnectionFile)
    except (OSError, msgspec.DecodeError, UnicodeError):
        return None


def write_connection_file(folder: Path, content: ConnectionFile) -> None:
    """Write the connection file in one step, readable by its owner only."""
    path = connection_file_of(folder)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
