"""Finding a service: the connection file that a running service writes, and what it holds."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from farframe.client.errors import ConnectionFileError
from farframe.paths import connection_file_of, default_data_dir

CONNECTION_VARIABLE = "FARFRAME_CONNECTION"
"""Environment variable that names the connection file."""

MAX_CONNECTION_FILE_BYTES = 64 * 1024

START_STEP = (
    "Start a service with `farframe up`, or name the file of a running one with --connection or FARFRAME_CONNECTION."
)


class _File(msgspec.Struct, rename="camel"):
    """The file as it is written; members that it does not need to have carry defaults."""

    endpoint: str
    sts_endpoint: str
    account_id: str
    account_key: str = ""
    access_token: str = ""
    account_domain: str = ""
    http_url: str | None = None
    console_url: str | None = None
    ca_bundle: str | None = None
    region: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Where a service is and who is calling. Neither the account key nor the token shows in ``repr``.

    Whoever has an ``access_token`` needs no account key: the token is sent as it is, and it is not replaced when it has
    expired. A device with a session token calls that way.

    ``endpoint`` and ``sts_endpoint`` are base URLs without a trailing slash; ``ca_bundle`` is a PEM file with the only
    certificate authority to trust, or ``None`` for those that the system trusts. ``ca_certificates`` are such
    authorities as text, in PEM; with ``trust_system`` those of the system are trusted beside them.
    """

    endpoint: str
    sts_endpoint: str
    account_id: str
    account_key: str = field(default="", repr=False)
    account_domain: str = ""
    http_url: str | None = None
    console_url: str | None = None
    ca_bundle: Path | None = None
    region: str = ""
    access_token: str = field(default="", repr=False)
    ca_certificates: str = field(default="", repr=False)
    trust_system: bool = False

    def ssl_context(self) -> ssl.SSLContext:
        """A TLS context that trusts ``ca_bundle`` and ``ca_certificates``, or what the system trusts. Raises
        ConnectionFileError."""
        try:
            context = ssl.create_default_context(
                cafile=str(self.ca_bundle) if self.ca_bundle else None, cadata=self.ca_certificates or None
            )
            if self.trust_system:
                context.load_default_certs()
            return context
        except (OSError, ValueError) as error:
            if self.ca_bundle is None:
                raise ConnectionFileError(
                    f"The certificates for {self.endpoint} cannot be read: {error}.",
                    next_step="Ask the operator of the service to correct region_ca_files.",
                ) from error
            raise ConnectionFileError(
                f"The certificate file {self.ca_bundle} cannot be read: {error}.",
                next_step="Copy the service's ca.pem to this machine and let caBundle in the connection file name it.",
            ) from error

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> ConnectionInfo:
        """Read a connection file. A relative ``caBundle`` is relative to the file. Raises ConnectionFileError."""
        file = Path(path).expanduser()
        try:
            if file.is_dir():
                file = connection_file_of(file)
            with file.open("rb") as stream:
                data = stream.read(MAX_CONNECTION_FILE_BYTES + 1)
        except FileNotFoundError:
            raise ConnectionFileError(f"There is no connection file {file}.", next_step=START_STEP) from None
        except OSError as error:
            raise ConnectionFileError(
                f"The connection file {file} cannot be read: {error.strerror}.",
                next_step="Run this as the user who runs the service, or copy the file.",
            ) from error
        return cls._parse(data, file)

    @classmethod
    def _parse(cls, data: bytes, file: Path) -> ConnectionInfo:
        wrong = f"{file} is not a connection file"
        step = "Use the connection.json that `farframe up` writes into its data folder."
        if len(data) > MAX_CONNECTION_FILE_BYTES:
            raise ConnectionFileError(f"{wrong}: it is larger than {MAX_CONNECTION_FILE_BYTES} bytes.", next_step=step)
        try:
            content = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeError) as error:
            # The decoder's text names members and types, never values: no key can leak through it.
            raise ConnectionFileError(f"{wrong}: {error}.", next_step=step) from None
        if not content.account_key and not content.access_token:
            raise ConnectionFileError(f"{wrong}: it holds neither accountKey nor accessToken.", next_step=step)
        for name, url in (("endpoint", content.endpoint), ("stsEndpoint", content.sts_endpoint)):
            _check_url(name, url, wrong, step)
        return cls(
            endpoint=content.endpoint.rstrip("/"),
            sts_endpoint=content.sts_endpoint.rstrip("/"),
            account_id=content.account_id,
            account_key=content.account_key,
            account_domain=content.account_domain,
            http_url=content.http_url or None,
            console_url=content.console_url or None,
            ca_bundle=(file.parent / content.ca_bundle) if content.ca_bundle else None,
            region=content.region,
            access_token=content.access_token,
        )

    @classmethod
    def find(
        cls, path: str | os.PathLike[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> ConnectionInfo:
        """Read the connection file at ``path``, else the one ``FARFRAME_CONNECTION`` names, else the default one.

        Raises ConnectionFileError; when nothing was named and nothing is there, it says how to start a service.
        """
        named = path or (os.environ if environment is None else environment).get(CONNECTION_VARIABLE)
        if named:
            return cls.from_file(named)
        default = connection_file_of(default_data_dir())
        if not default.exists():
            raise ConnectionFileError(f"No service is running here: there is no {default}.", next_step=START_STEP)
        return cls.from_file(default)


def _check_url(name: str, url: str, wrong: str, step: str) -> None:
    """Only https leaves the machine; plain http is for loopback, as the service itself has it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ConnectionFileError(f"{wrong}: {name} is no URL.", next_step=step) from None
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"):
        return
    raise ConnectionFileError(f"{wrong}: {name} must be an https URL.", next_step=step)
