"""A whole service on loopback ports, with a fake fleet and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from farframe.auth.certificates import CertificateFiles, client_ssl_context, ensure_certificates, server_ssl_context
from farframe.auth.secrets import hash_account_key, new_account_key
from farframe.auth.tokens import Role, SigningKey, new_signing_key
from farframe.fleet.base import Fleet
from farframe.fleet.fake import FakeFleet
from farframe.service.app import Service
from farframe.service.clock import Clock, ManualClock
from farframe.service.config import ServiceConfig
from farframe.service.conversion_workers import ConversionWorkers
from farframe.service.conversions import ConversionQueue
from farframe.service.listeners import Listener, bind
from farframe.service.replicas import ensure_replica_id
from farframe.store.store import Store
from farframe.wire.ids import new_account_id

VERSION = "2021-01-01"


@dataclass
class World:
    """A running service and how to talk to it."""

    service: Service
    fleet: Any
    clock: Any
    store: Store
    folder: Path
    ca: Path
    account: str
    key: str
    https: httpx.AsyncClient
    http: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return self.service.addresses.endpoint

    @property
    def http_url(self) -> str:
        return self.service.addresses.http_url

    def token(self, role: Role = Role.ADMINISTRATOR, session: str | None = None, account: str | None = None) -> str:
        return self.service.issuer.issue(account or self.account, role, session_id=session)[0]

    def bearer(self, **arguments: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**arguments)}"}

    def path(self, rest: str = "", version: str | None = VERSION, kind: str = "sessions") -> str:
        query = f"?api-version={version}" if version else ""
        return f"/accounts/{self.account}/{kind}{rest}{query}"

    async def call(self, method: str, rest: str = "", **arguments: Any) -> httpx.Response:
        """A data-plane call below ``sessions`` with a valid token."""
        arguments.setdefault("headers", self.headers)
        return await self.http.request(method, self.path(rest), **arguments)

    async def create(self, name: str = "s", lease: int = 10, size: str = "Standard") -> httpx.Response:
        return await self.call("PUT", f"/{name}", json={"maxLeaseTimeMinutes": lease, "size": size})

    async def show(self, name: str = "s") -> dict[str, Any]:
        response = await self.call("GET", f"/{name}")
        assert response.status_code == 200, response.text
        result: dict[str, Any] = response.json()
        return result

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():
                await asyncio.sleep(0.005)

    async def until_status(self, status: str, name: str = "s") -> dict[str, Any]:
        async def reached() -> bool:
            return (await self.show(name))["status"] == status

        await self.until(reached)
        return await self.show(name)


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    return new_signing_key()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"), [])


WorldFactory = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def make_world(tmp_path: Path, signing_key: SigningKey, certificates: CertificateFiles) -> WorldFactory:
    @asynccontextmanager
    async def factory(
        fleet: Fleet | None = None,
        clock: Clock | None = None,
        conversion_queue: ConversionQueue | None = None,
        workers: Callable[[Store, str], ConversionWorkers] | None = None,
        **settings: Any,
    ) -> AsyncIterator[World]:
        config = ServiceConfig(data_dir=str(tmp_path / "data"), **settings)
        config.data_path.mkdir(exist_ok=True)
        store = await Store.open(config.data_path / "farframe.db")
        account, key = new_account_id(), new_account_key()
        present = await store.accounts.first()
        if present is None:
            await store.accounts.create(account, "default", 1)
        else:
            account = present.id
        await store.accounts.set_key(account, 1, hash_account_key(key), 1)
        fleet, clock = fleet or FakeFleet(), clock or ManualClock()
        storage = None
        if workers is not None:
            made = workers(store, ensure_replica_id(config.data_path))
            conversion_queue, storage = made, made.storage
        service = Service(
            config,
            fleet,
            store,
            signing_keys=[signing_key],
            ca_file=certificates.ca,
            clock=clock,
            conversion_queue=conversion_queue,
            conversion_storage=storage,
        )
        https = Listener(service.app, bind("127.0.0.1", 0, "--port"), server_ssl_context(certificates))
        http = Listener(service.app, bind("127.0.0.1", 0, "--http-port"), None)
        service.addresses.endpoint = f"https://localhost:{https.port}"
        service.addresses.http_url = f"http://127.0.0.1:{http.port}"
        await service.start()
        await https.start()
        await http.start()
        tls = client_ssl_context(certificates.ca)
        try:
            async with (
                httpx.AsyncClient(
                    base_url=service.addresses.endpoint, verify=tls, trust_env=False, timeout=60
                ) as https_client,
                httpx.AsyncClient(base_url=service.addresses.http_url, trust_env=False, timeout=60) as http_client,
            ):
                world = World(
                    service=service,
                    fleet=fleet,
                    clock=clock,
                    store=store,
                    folder=config.data_path,
                    ca=certificates.ca,
                    account=account,
                    key=key,
                    https=https_client,
                    http=http_client,
                )
                world.headers = world.bearer()
                yield world
        finally:
            await asyncio.gather(https.stop(), http.stop())
            await service.stop()
            await store.close()

    return factory


@pytest.fixture
async def world(make_world: WorldFactory) -> AsyncIterator[World]:
    async with make_world() as made:
        yield made
