"""Tokens end with their key at real render servers too, which check tokens without asking anybody."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from farframe.client import (
    ConnectionInfo,
    HandshakeError,
    OperatorClient,
    OperatorInfo,
    RemoteRenderingClient,
)
from farframe.protocol.errors import Result
from tests.end_to_end.harness import RunningService

pytestmark = pytest.mark.slow


async def refused(info: ConnectionInfo, session_id: str, host: str, port: int) -> bool:
    """Whether the render server itself refuses the device's token; what else is wrong with the offer does not count."""
    async with httpx.AsyncClient(verify=info.ssl_context(), trust_env=False, timeout=60) as client:
        response = await client.post(
            f"https://{host}:{port}/whep",
            content=b"no offer",
            headers={"Authorization": f"Bearer {info.access_token}", "Content-Type": "application/sdp"},
        )
    assert response.status_code in (400, 401, 403), (session_id, response.text)
    return response.status_code != 400


async def test_a_revoked_token_opens_no_session(service: RunningService) -> None:
    operator = OperatorClient(OperatorInfo.find(service.connection_path))
    default = ConnectionInfo.from_file(service.connection_path)
    async with operator:
        account = await operator.create_account("revocation")
        info = ConnectionInfo(
            endpoint=default.endpoint,
            sts_endpoint=default.sts_endpoint,
            account_id=account.account_id,
            account_key=account.keys[0].key or "",
            ca_bundle=default.ca_bundle,
        )
        async with RemoteRenderingClient(info) as client:
            session = await client.create_session()
            ready = await session.wait_until_ready()
            held = await session.create_token()
            viewer = await session.create_token("Viewer")
        host, port = ready.hostname or "", ready.handshake_port or 0

        def device_of(token: str) -> ConnectionInfo:
            return ConnectionInfo(
                endpoint=default.endpoint,
                sts_endpoint=default.sts_endpoint,
                account_id=account.account_id,
                access_token=token,
                ca_bundle=default.ca_bundle,
            )

        assert await refused(device_of(viewer.token), session.id, host, port), "whoever connects so drives"
        device = device_of(held.token)
        async with RemoteRenderingClient(device) as client:
            mine = await client.get_session(session.id)
            async with mine.connect(width=320, height=180, relayed=False) as connection:
                await connection.wait_for_still()
            assert not await refused(device, session.id, host, port)

            await operator.regenerate_key(account.account_id, 1)
            async with asyncio.timeout(60):
                while not await refused(device, session.id, host, port):
                    await asyncio.sleep(0.05)
            with pytest.raises(HandshakeError) as caught:
                async with mine.connect(width=320, height=180, relayed=False):
                    pass
            assert caught.value.result is Result.AUTHENTICATION_FAILED

        async with RemoteRenderingClient(
            ConnectionInfo(
                endpoint=default.endpoint,
                sts_endpoint=default.sts_endpoint,
                account_id=account.account_id,
                account_key=account.keys[1].key or "",
                ca_bundle=default.ca_bundle,
            )
        ) as client:
            other = await client.get_session(session.id)
            async with other.connect(width=320, height=180, relayed=False) as connection:
                await connection.wait_for_still()
        await operator.delete_account(account.account_id)
