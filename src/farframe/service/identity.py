"""What makes a data folder one installation: its lock, its account, its signing keys, its connection file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from farframe.auth.secrets import account_key_matches, hash_account_key, new_account_key, new_operator_token
from farframe.auth.tokens import SigningKey, new_signing_key
from farframe.paths import connection_file_of, operator_file_of
from farframe.service.clock import Clock
from farframe.service.keyring import sort_signing_keys
from farframe.store.accounts import PRIMARY, SigningKeyRow
from farframe.store.store import Store
from farframe.wire.ids import new_account_id

log = structlog.get_logger("farframe.service")

LOCK_FILE_NAME = "service.lock"
DATABASE_NAME = "farframe.db"
DEFAULT_ACCOUNT_NAME = "default"
"""The account that a service makes for itself; operators cannot give this name."""

MAX_FOLDER_NAME_LENGTH = 500

T = TypeVar("T")


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


class OperatorFile(msgspec.Struct, kw_only=True, rename="camel"):
    """``operator.json``: with which operators manage accounts. Holds their token, hence mode 0600."""

    endpoint: str
    operator_token: str
    ca_bundle: str

    def __repr__(self) -> str:
        return f"OperatorFile(endpoint={self.endpoint!r})"


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
    former = await asyncio.to_thread(read_connection_file, folder)
    account = await store.accounts.get(former.account_id) if former is not None else None
    # Never an account that operators have made: its owner's key would be lost.
    if account is None and store.is_sqlite:
        account = await store.accounts.first(DEFAULT_ACCOUNT_NAME)
    # A further service on a shared database gets an account of its own: a new key for the first one's would lock that
    # out. To share an account, copy the connection file before the first start.
    if account is None:
        account_id = new_account_id()
        await store.accounts.create(account_id, DEFAULT_ACCOUNT_NAME, clock.now())
        if not store.is_sqlite and await store.accounts.first(DEFAULT_ACCOUNT_NAME) is not None:
            log.info("account.own", account=account_id, advice="to share one, copy connection.json before the start")
    else:
        account_id = account.id
        if former is not None and former.account_id == account_id:
            hashes = await store.accounts.key_hashes(account_id)
            if any(account_key_matches(former.account_key, kept) for kept in hashes):
                return account_id, former.account_key
    key = new_account_key()
    await store.accounts.set_key(account_id, PRIMARY, hash_account_key(key), clock.now())
    return account_id, key


async def ensure_operator_token(store: Store, folder: Path, clock: Clock) -> str:
    """The operator's token of this folder. The store keeps only a digest, so the operator file is where it is; if that
    is lost there will be a new one.
    """
    name = f"{socket.gethostname()}:{folder}"[-MAX_FOLDER_NAME_LENGTH:]
    kept = (await store.operators.token_hashes()).get(name)
    former = await asyncio.to_thread(_read, operator_file_of(folder), OperatorFile)
    if former is not None and kept is not None and account_key_matches(former.operator_token, kept):
        return former.operator_token
    token = new_operator_token()
    await store.operators.set_token(name, hash_account_key(token), clock.now())
    return token


async def ensure_signing_keys(store: Store, clock: Clock) -> list[SigningKey]:
    """The keys for tokens, the one to sign with first."""
    rows = await store.signing_keys.active()
    if not rows:
        key = await asyncio.to_thread(new_signing_key)
        await store.signing_keys.add(SigningKeyRow(key.key_id, key.private_pem), clock.now())
        return [key]
    signing, needed = sort_signing_keys(rows, clock.now())
    ordered = [signing, *(row for row in needed if row.id != signing.id)]
    return [SigningKey(row.id, row.private_pem) for row in ordered]


def read_connection_file(folder: Path) -> ConnectionFile | None:
    """The connection file of an earlier run, if there is one that can be read."""
    return _read(connection_file_of(folder), ConnectionFile)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeError):
        return None


def write_connection_file(folder: Path, content: ConnectionFile) -> None:
    """Write the connection file in one step, readable by its owner only."""
    _write(connection_file_of(folder), content)


def write_operator_file(folder: Path, content: OperatorFile) -> None:
    """Write the operator file in one step, readable by its owner only."""
    _write(operator_file_of(folder), content)


class ConnectionKeeper:
    """Puts a new key of the folder's own account into its connection file, so that its clients go on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, account_id: str, serial: int, key: str) -> None:
        """Told of every new key."""
        await asyncio.to_thread(self._keep, account_id, serial, key)

    def _keep(self, account_id: str, serial: int, key: str) -> None:
        content = read_connection_file(self._folder)
        if serial == PRIMARY and content is not None and content.account_id == account_id:
            write_connection_file(self._folder, msgspec.structs.replace(content, account_key=key))


def _write(path: Path, content: msgspec.Struct) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
