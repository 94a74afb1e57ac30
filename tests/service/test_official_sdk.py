"""The official Python SDK, unchanged, against a live https service with our own certificate authority."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from farframe.service.clock import SystemClock
from farframe.service.conversions import ConversionBook, ConversionJob
from farframe.wire.conversions import output_asset_uri

CLIENT = Path(__file__).parent / "sdk_client.py"


async def run_sdk(world: Any, flavour: str, many: int = 0, *, convert: bool = False) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": str(world.ca),
        "SSL_CERT_FILE": str(world.ca),
        "SDK_ENDPOINT": world.endpoint,
        "SDK_ACCOUNT": world.account,
        "SDK_KEY": world.key,
        "SDK_MANY": str(many),
        "SDK_CONVERT": "1" if convert else "0",
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


class PromptQueue:
    """Does conversions at once, or fails those whose id begins with ``bad``, as the hosted service did."""

    async def submit(self, job: ConversionJob, book: ConversionBook) -> None:
        await book.started(job.key)
        if job.conversion_id.startswith("bad"):
            message = "Invalid input provided. Check logs in output container for details."
            await book.failed(job.key, "ConversionProcessFailed", message)
        else:
            await book.succeeded(job.key, output_asset_uri(job.request.settings), 1)

    async def tend(self, now: int, book: ConversionBook) -> int | None:
        return None

    async def stop(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["sync", "aio"])
async def test_conversions(make_world: Any, flavour: str) -> None:
    async with make_world(conversion_queue=PromptQueue(), clock=SystemClock()) as world:
        steps = {step["step"]: step for step in await run_sdk(world, flavour, convert=True)}
    done = {
        "id": "good-1",
        "status": "Succeeded",
        "input": "Input/",
        "name": "box.arrAsset",
        "sas": None,
        "uri": "https://acct.blob.example.net/out/box.arrAsset",
    }
    for step in ("converted", "got", "again")[: 3 if flavour == "sync" else 2]:
        assert steps[step] == {"step": step, **done}
    errors = {name: (step["kind"], step["status"], step["code"]) for name, step in steps.items() if "kind" in step}
    expected = {
        "failed": ("HttpResponseError", None, "ConversionProcessFailed"),
        "no access": ("HttpResponseError", 403, "DelegatedResourceAccessError"),
    }
    if flavour == "sync":
        expected |= {
            "conflict": ("ResourceExistsError", 409, "Conflict"),
            "bad id": ("HttpResponseError", 400, "BadRequest"),
            "missing": ("ResourceNotFoundError", 404, None),
        }
    assert errors == expected
    assert steps["list"]["ids"] == ["good-1", "bad-1", *(f"bad-many-{i:02d}" for i in range(60))]
