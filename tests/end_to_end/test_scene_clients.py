"""The TypeScript client's scene against a real render server: random commands, lines that break, and in the end both
sides hold the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from farframe.client import RemoteRenderingClient, Session
from tests.end_to_end.harness import RunningService
from tests.web.package import CLIENT, NODE_ROOT

pytestmark = pytest.mark.slow

DRIVER = CLIENT / "test" / "drive_real_server.ts"
PATIENCE_SECONDS = 240


async def drive(
    service: RunningService, client: RemoteRenderingClient, session: Session, **task: Any
) -> dict[str, Any]:
    """Run the driver in Node, over the service's relayed WebSocket; returns its report."""
    link = urlsplit((await client.create_viewer_link(session.id)).url)
    account = service.connection["accountId"]
    scheme = "wss" if link.scheme == "https" else "ws"
    url = f"{scheme}://{link.netloc}/accounts/{account}/sessions/{session.id}/stream"
    whole = {"url": url, "token": await client._http.token(), "model": "builtin://Engine", "textures": []} | task
    process = await asyncio.create_subprocess_exec(
        NODE_ROOT / "bin" / "node",
        DRIVER,
        json.dumps(whole),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError("the driver did not end") from None
    assert process.returncode == 0, f"{out.decode()[-6000:]}\n{complaints.decode()[-3000:]}\n{service.log()[-3000:]}"
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_both_sides_hold_the_same(
    service: RunningService, shared_folder: Path, seed: int
) -> None:
    picture = shared_folder / f"texture-{seed}.png"
    Image.new("RGB", (8, 4), (200, 30, 10 * seed)).save(picture)
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        report = await drive(service, client, session, seed=seed, steps=400, textures=[picture.as_uri()])
    assert report["entities"] > 50
    assert report["breaks"] >= 2
    assert report["materials"] > 4
