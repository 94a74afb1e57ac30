"""The official Python SDK, unchanged, against a live https service with our own certificate authority."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).parent / "sdk_client.py"


async def run_sdk(world: Any, flavour: str, many: int = 0) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": str(world.ca),
        "SSL_CERT_FILE": str(world.ca),
        "SDK_ENDPOINT": world.endpoint,
        "SDK_ACCOUNT": world.account,
        "SDK_KEY": world.key,
        "SDK_MANY": str(many),
        "NO_PROXY": "localhost,127.0.0.1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CLIENT),
        flavour,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
async def test_sync(world: Any) -> None:
    steps = await run_sdk(world, "sync")
    assert [step["step"] for step in steps[:6]] == ["ready", "list", "extended", "got", "stopped", "list"]
    ready, listed, extended, got, stopped, empty = steps[:6]
    assert (ready["status"], ready["size"], ready["lease"]) == ("Ready", "Standard", 15)
    assert (ready["host"], ready["port"]) == ("localhost", 50051)
    assert listed["ids"] == ["sdk-1"]
    assert extended["lease"] == got["lease"] == 20
    assert (stopped["status"], stopped["host"]) == ("Stopped", None)
    assert empty["ids"] == []
    errors = {step["step"]: (step["kind"], step.get("status"), step.get("code")) for step in steps[6:12]}
    assert errors == {
        "missing": ("ResourceNotFoundError", 404, None),
        "negative": ("HttpResponseError", 400, "BadRequest"),
        "bad id": ("HttpResponseError", 400, "BadRequest"),
        "conflict": ("ResourceExistsError", 409, "Conflict"),
        "smaller": ("HttpResponseError", 422, "UnprocessableEntity"),
        "wrong key": ("ClientAuthenticationError", 401, None),
    }
    assert steps[12]["status"] == "Ready"
    assert steps[13] == {"step": "full", "code": "NoServerAvailable"}


@pytest.mark.slow
async def test_aio(make_world: Any) -> None:
    async with make_world(servers={"standard": 100}) as world:
        steps = await run_sdk(world, "aio", many=60)
    ready, listed, extended, stopped, many = steps
    assert (ready["status"], ready["lease"]) == ("Ready", 15)
    assert listed["ids"] == ["aio-1"]
    assert extended["lease"] == 20
    assert stopped["status"] == "Stopped"
    assert sorted(many["ids"]) == [f"many-{i:03d}" for i in range(60)]
