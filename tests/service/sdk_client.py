"""What an application does with the official SDK, run as a process of its own: ``sdk_client.py sync|aio``.

The environment tells where the service is and which root to trust; it must be set before the SDK's transports load.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

ENDPOINT = os.environ["SDK_ENDPOINT"]
ACCOUNT = os.environ["SDK_ACCOUNT"]
KEY = os.environ["SDK_KEY"]
CONVERT = os.environ.get("SDK_CONVERT") == "1"


def report(**facts: Any) -> None:
    print(json.dumps(facts, default=str), flush=True)


def describe(session: Any) -> dict[str, Any]:
    return {
        "id": session.id,
        "status": str(session.status),
        "size": str(session.size),
        "lease": session.lease_time_minutes,
        "host": session.hostname,
        "port": session.handshake_port,
        "created": session.created_on.isoformat(),
    }


def show(conversion: Any) -> dict[str, Any]:
    return {
        "id": conversion.id,
        "status": str(conversion.status),
        "input": conversion.settings.input_settings.blob_prefix,
        "name": conversion.settings.output_settings.output_asset_filename,
        "sas": conversion.settings.input_settings.storage_container_read_list_sas,
        "uri": conversion.output.asset_uri if conversion.output else None,
    }


def locations(name: str = "box.fbx", sas: str | None = "sv=1&sig=s") -> tuple[Any, Any]:
    from azure.mixedreality.remoterendering import AssetConversionInputSettings, AssetConversionOutputSettings

    source = AssetConversionInputSettings(
        storage_container_uri="https://acct.blob.example.net/in",
        storage_container_read_list_sas=sas,
        blob_prefix="Input",
        relative_input_asset_path=name,
    )
    target = AssetConversionOutputSettings(
        storage_container_uri="https://acct.blob.example.net/out", storage_container_write_sas=sas
    )
    return source, target


def sync_conversions(client: Any) -> None:
    from azure.core.exceptions import HttpResponseError

    def begin(name: str, *where: Any) -> Any:
        return client.begin_asset_conversion(name, input_settings=where[0], output_settings=where[1])

    report(step="converted", **show(begin("good-1", *locations()).result()))
    report(step="got", **show(client.get_asset_conversion("good-1")))
    report(step="again", **show(begin("good-1", *locations(sas="?sv=2&sig=other")).result()))
    for name, call in {
        "failed": lambda: begin("bad-1", *locations()).result(),
        "conflict": lambda: begin("good-1", *locations("other.fbx")),
        "no access": lambda: begin("none-1", *locations(sas=None)),
        "bad id": lambda: begin("a b/c", *locations()),
        "missing": lambda: client.get_asset_conversion("nobody"),
    }.items():
        try:
            call()
        except HttpResponseError as error:
            code = error.error.code if error.error is not None else None
            report(step=name, kind=type(error).__name__, status=error.status_code, code=code)
        else:
            report(step=name, kind="none")
    for i in range(60):
        begin(f"bad-many-{i:02d}", *locations())
    report(step="list", ids=[conversion.id for conversion in client.list_asset_conversions()])


async def aio_conversions(client: Any) -> None:
    from azure.core.exceptions import HttpResponseError

    async def begin(name: str, *where: Any) -> Any:
        return await client.begin_asset_conversion(name, input_settings=where[0], output_settings=where[1])

    report(step="converted", **show(await (await begin("good-1", *locations())).result()))
    report(step="got", **show(await client.get_asset_conversion("good-1")))
    for name, call in {
        "failed": lambda: begin("bad-1", *locations()),
        "no access": lambda: begin("none-1", *locations(sas=None)),
    }.items():
        try:
            await (await call()).result()
        except HttpResponseError as error:
            code = error.error.code if error.error is not None else None
            report(step=name, kind=type(error).__name__, status=error.status_code, code=code)
        else:
            report(step=name, kind="none")
    for i in range(60):
        await begin(f"bad-many-{i:02d}", *locations())
    report(step="list", ids=[conversion.id async for conversion in await client.list_asset_conversions()])


def sync() -> None:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
    from azure.mixedreality.remoterendering import RemoteRenderingClient, RenderingSessionSize

    def make(key: str) -> RemoteRenderingClient:
        return RemoteRenderingClient(
            endpoint=ENDPOINT,
            account_id=ACCOUNT,
            account_domain="localhost",
            credential=AzureKeyCredential(key),
            authentication_endpoint_url=ENDPOINT,
            polling_interval=0.05,
        )

    client = make(KEY)
    if CONVERT:
        sync_conversions(client)
        return
    poller = client.begin_rendering_session("sdk-1", size=RenderingSessionSize.STANDARD, lease_time_minutes=15)
    report(step="ready", **describe(poller.result()))
    report(step="list", ids=[session.id for session in client.list_rendering_sessions()])
    report(step="extended", **describe(client.update_rendering_session("sdk-1", lease_time_minutes=20)))
    report(step="got", **describe(client.get_rendering_session("sdk-1")))
    client.stop_rendering_session("sdk-1")
    report(step="stopped", **describe(client.get_rendering_session("sdk-1")))
    report(step="list", ids=[session.id for session in client.list_rendering_sessions()])
    for name, call in {
        "missing": lambda: client.get_rendering_session("nobody"),
        "negative": lambda: client.begin_rendering_session("bad", size="Standard", lease_time_minutes=-4),
        "bad id": lambda: client.get_rendering_session("a b/c"),
        "conflict": lambda: client.begin_rendering_session("sdk-1", size="Premium", lease_time_minutes=15),
        "smaller": lambda: client.update_rendering_session("sdk-1", lease_time_minutes=1),
        "wrong key": lambda: make("wrong").get_rendering_session("sdk-1"),
    }.items():
        try:
            call()
        except HttpResponseError as error:
            kind = type(error).__name__
            assert isinstance(error, ResourceNotFoundError | ResourceExistsError | HttpResponseError)
            code = error.error.code if error.error is not None else None
            report(step=name, kind=kind, status=error.status_code, code=code)
        else:
            report(step=name, kind="none")
    full = client.begin_rendering_session("full-1", size="Premium", lease_time_minutes=5)
    report(step="ready", **describe(full.result()))
    try:
        client.begin_rendering_session("full-2", size="Premium", lease_time_minutes=5).result()
    except HttpResponseError as error:
        report(step="full", code=error.error.code)


async def aio() -> None:
    from azure.core.credentials import AzureKeyCredential
    from azure.mixedreality.remoterendering.aio import RemoteRenderingClient

    client = RemoteRenderingClient(
        endpoint=ENDPOINT,
        account_id=ACCOUNT,
        account_domain="localhost",
        credential=AzureKeyCredential(KEY),
        authentication_endpoint_url=ENDPOINT,
        polling_interval=0.05,
    )
    async with client:
        if CONVERT:
            await aio_conversions(client)
            return
        poller = await client.begin_rendering_session("aio-1", size="Standard", lease_time_minutes=15)
        report(step="ready", **describe(await poller.result()))
        ids = [session.id async for session in await client.list_rendering_sessions()]
        report(step="list", ids=ids)
        report(step="extended", **describe(await client.update_rendering_session("aio-1", lease_time_minutes=20)))
        await client.stop_rendering_session("aio-1")
        report(step="stopped", **describe(await client.get_rendering_session("aio-1")))
        for i in range(int(os.environ["SDK_MANY"])):
            await client.begin_rendering_session(f"many-{i:03d}", size="Standard", lease_time_minutes=5)
        ids = [session.id async for session in await client.list_rendering_sessions()]
        report(step="many", ids=ids)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        sync()
    else:
        asyncio.run(aio())
