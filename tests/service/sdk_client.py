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
