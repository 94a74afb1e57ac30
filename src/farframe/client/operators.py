"""What operators do: accounts, their keys, the audit log. With the operator file of a service."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urljoin

import httpx
import msgspec

from farframe import __version__
from farframe.client._http import TIMEOUT, error_of, translate
from farframe.client.connection_file import CONNECTION_VARIABLE, MAX_CONNECTION_FILE_BYTES
from farframe.client.errors import AuthenticationError, ConnectionFileError, ServiceError
from farframe.client.management import decode, same_origin
from farframe.paths import OPERATOR_FILE_NAME, default_data_dir, operator_file_of
from farframe.wire.operators import Account, AccountKey, AccountList, AuditList, AuditRecord, CreateAccount
from farframe.wire.quotas import QuotaReport, SetQuotas
from farframe.wire.usage import NewPrice, Price, PriceList, UsageReport

OPERATOR_VARIABLE = "FARFRAME_OPERATOR"
"""Environment variable that names the operator file."""

MAX_PAGES = 10_000


class _File(msgspec.Struct, rename="camel"):
    endpoint: str
    operator_token: str
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """Where a service is and the token of its operators, which never shows in ``repr``."""

    endpoint: str
    operator_token: str = field(repr=False)
    ca_bundle: Path | None = None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> OperatorInfo:
        """Read an operator file. Raises ConnectionFileError."""
        file = Path(path).expanduser()
        file = operator_file_of(file) if file.is_dir() else file
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_CONNECTION_FILE_BYTES)
            content = msgspec.json.decode(data, type=_File)
        except FileNotFoundError:
            raise ConnectionFileError(
                f"There is no operator file {file}.",
                next_step="A service writes operator.json into its data folder when it starts; "
                "name it with FARFRAME_OPERATOR.",
            ) from None
        except OSError as error:
            raise ConnectionFileError(
                f"The operator file {file} cannot be read: {error.strerror}.",
                next_step="Run this as the user who runs the service.",
            ) from error
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ConnectionFileError(
                f"{file} is not an operator file: {error}.",
                next_step="Use the operator.json that the service writes into its data folder.",
            ) from None
        if not content.endpoint.startswith("https://"):
            raise ConnectionFileError(
                f"{file} is not an operator file: endpoint must be an https URL.",
                next_step="Use the operator.json that the service writes into its data folder.",
            )
        bundle = file.parent / content.ca_bundle if content.ca_bundle else None
        return cls(content.endpoint.rstrip("/"), content.operator_token, bundle)

    @classmethod
    def find(
        cls, connection: str | os.PathLike[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> OperatorInfo:
        """The operator file beside the connection file ``connection``; else the one that ``FARFRAME_OPERATOR`` names;
        else the one beside what ``FARFRAME_CONNECTION`` names; else that of the default data folder. Raises
        ConnectionFileError.
        """
        variables = os.environ if environment is None else environment
        if connection is None and variables.get(OPERATOR_VARIABLE):
            return cls.from_file(variables[OPERATOR_VARIABLE])
        named = connection or variables.get(CONNECTION_VARIABLE)
        if not named:
            return cls.from_file(operator_file_of(default_data_dir()))
        file = Path(named).expanduser()
        return cls.from_file((file if file.is_dir() else file.parent) / OPERATOR_FILE_NAME)


class OperatorClient:
    """A caller with an operator's rights. Use it as an async context manager, or call :meth:`close`.

    All methods raise :class:`~farframe.client.errors.ServiceUnreachableError` when there is no answer and a
    :class:`~farframe.client.errors.ServiceError` when the answer is an error.
    """

    def __init__(self, info: OperatorInfo, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """``transport`` replaces the network, for tests. Raises ConnectionFileError."""
        self._endpoint = info.endpoint
        try:
            tls = ssl.create_default_context(cafile=str(info.ca_bundle) if info.ca_bundle else None)
        except (OSError, ssl.SSLError) as error:
            raise ConnectionFileError(
                f"The certificate file {info.ca_bundle} cannot be read: {error}.",
                next_step="Let caBundle in the operator file name the service's ca.pem.",
            ) from error
        direct: dict[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
        self._http = httpx.AsyncClient(
            verify=tls,
            timeout=TIMEOUT,
            headers={
                "User-Agent": f"farframe/{__version__}",
                "Accept": "application/json",
                "Authorization": f"Bearer {info.operator_token}",
            },
            mounts=direct,
            transport=transport,
        )

    async def close(self) -> None:
        """Close all connections to the service."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def usage(self, begin: str | None = None, end: str | None = None, by: str = "day,size") -> UsageReport:
        """What all accounts used, as :meth:`RemoteRenderingClient.usage` tells of one."""
        query = {"by": by} | ({"from": begin} if begin else {}) | ({"to": end} if end else {})
        return decode(await self._send("GET", f"usage?{httpx.QueryParams(query)}"), UsageReport)

    async def prices(self) -> list[Price]:
        """Every price that was ever valid."""
        return decode(await self._send("GET", "prices"), PriceList).prices

    async def add_price(self, new: NewPrice) -> Price:
        """Add a price. Raises ConflictError where it would change a total."""
        return decode(await self._send("POST", "prices", json=new), Price)

    async def create_account(self, name: str, account_id: str | None = None) -> Account:
        """A new account. Its two keys are in the answer and can never be read again. Raises ConflictError."""
        body = CreateAccount(name=name, account_id=account_id)
        return decode(await self._send("POST", "accounts", json=body), Account)

    async def list_accounts(self) -> AsyncIterator[Account]:
        """All accounts, oldest first."""
        url: str | None = f"{self._endpoint}/operator/accounts"
        for _ in range(MAX_PAGES):
            page = decode(await self._request("GET", url or ""), AccountList)
            for account in page.accounts:
                yield account
            url = self._next(page.next_link)
            if url is None:
                return

    async def get_account(self, account_id: str) -> Account:
        """One account. Raises NotFoundError."""
        return decode(await self._send("GET", f"accounts/{quote(account_id, safe='')}"), Account)

    async def delete_account(self, account_id: str) -> None:
        """Delete an account: its tokens are void, its sessions end, its uploads go. Raises NotFoundError."""
        await self._send("DELETE", f"accounts/{quote(account_id, safe='')}")

    async def regenerate_key(self, account_id: str, serial: int) -> AccountKey:
        """Give an account a new key, primary (1) or secondary (2). The former one and the tokens that came from it are
        void; the other key is untouched. Raises NotFoundError.
        """
        path = f"accounts/{quote(account_id, safe='')}/keys/{serial}/regenerate"
        return decode(await self._send("POST", path), AccountKey)

    async def revoke_tokens(self, account_id: str) -> None:
        """Make all tokens of an account void; its keys stay. Raises NotFoundError."""
        await self._send("POST", f"accounts/{quote(account_id, safe='')}/revoke-tokens")

    async def quotas(self, account_id: str) -> QuotaReport:
        """The limits of an account. Raises NotFoundError."""
        return decode(await self._send("GET", f"accounts/{quote(account_id, safe='')}/quotas"), QuotaReport)

    async def set_quotas(self, account_id: str, quotas: Mapping[str, int | None]) -> QuotaReport:
        """Set some of an account's limits, all or none of them: -1 for no limit, ``None`` for the service's default.
        Raises NotFoundError, InvalidRequestError.
        """
        body = SetQuotas(quotas=dict(quotas))
        answer = await self._send("PUT", f"accounts/{quote(account_id, safe='')}/quotas", json=body)
        return decode(answer, QuotaReport)

    async def audit(
        self,
        *,
        account_id: str | None = None,
        action: str | None = None,
        begin: str | None = None,
        end: str | None = None,
    ) -> AsyncIterator[AuditRecord]:
        """Who did what, newest first. ``begin`` (included) and ``end`` (not) are dates or times in ISO 8601."""
        wanted = {"account": account_id, "action": action, "from": begin, "to": end}
        query = httpx.QueryParams({name: value for name, value in wanted.items() if value})
        url: str | None = f"{self._endpoint}/operator/audit?{query}"
        for _ in range(MAX_PAGES):
            page = decode(await self._request("GET", url or ""), AuditList)
            for record in page.records:
                yield record
            url = self._next(page.next_link)
            if url is None:
                return

    def _next(self, link: str | None) -> str | None:
        if not link:
            return None
        url = urljoin(f"{self._endpoint}/operator/", link)
        if not same_origin(url, self._endpoint):
            raise ServiceError(
                "The service links its next page to another host; the token was not sent there.",
                status=200,
                next_step="Check the service's public name.",
            )
        return url

    async def _send(self, method: str, path: str, *, json: Any = None) -> httpx.Response:
        return await self._request(method, f"{self._endpoint}/operator/{path}", json=json)

    async def _request(self, method: str, url: str, *, json: Any = None) -> httpx.Response:
        content = None if json is None else msgspec.json.encode(json)
        headers = {} if json is None else {"Content-Type": "application/json"}
        try:
            response = await self._http.request(method, url, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise translate(error, url) from error
        if response.status_code == 401:
            raise AuthenticationError(
                "The service does not know this operator's token.",
                status=401,
                next_step="Use the operator.json that the running service has written.",
            )
        if response.status_code >= 400:
            raise error_of(response, "The account")
        return response
