"""Traces: one span a request, nothing of the caller's in it but the parent it names."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farframe.service.tracing import Tracing
from tests.service.test_process import authorize, client_of, serving

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the packages of farframe[traces] are not installed")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_off_unless_asked_for() -> None:
    assert Tracing.from_environment({}, "here") is None
    assert Tracing.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "here") is None


async def test_a_span_a_request(world: Any) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), trace_sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    world.service.app.trace_with(tracing.request)
    await world.create("secretive")
    headers = {**world.headers, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    missing = await world.call("GET", "/missing", headers=headers)
    tracing.close()
    created, got = exporter.get_finished_spans()
    assert created.name == "PUT /accounts/{account}/sessions/{id}"
    assert created.attributes["http.response.status_code"] == 201
    assert got.attributes["http.response.status_code"] == 404
    assert got.attributes["ms_cv"] == missing.headers["ms-cv"]
    assert format(got.context.trace_id, "032x") == TRACE
    assert format(got.parent.span_id, "016x") == PARENT
    text = created.to_json()
    assert "secretive" not in text
    assert world.account not in text


class Collector:
    """Takes traces as collectors do: OTLP over HTTP in protocol buffers, at ``/v1/traces``."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.spans: list[tuple[dict[str, str], Any]] = []
        """Each with the facts of the resource that it came from."""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.bodies.append(body)
        if self.status == 200:
            for resource in otlp.ExportTraceServiceRequest.FromString(body).resource_spans:
                facts = {each.key: each.value.string_value for each in resource.resource.attributes}
                self.spans += [(facts, span) for scope in resource.scope_spans for span in scope.spans]
        answer = otlp.ExportTraceServiceResponse().SerializeToString()
        return web.Response(status=self.status, body=answer, content_type="application/x-protobuf")

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Collector]:
        app = web.Application()
        app.router.add_post("/v1/traces", self.take)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.mark.slow
async def test_a_collector_gets_the_spans_of_a_running_service(tmp_path: Path) -> None:
    async with Collector().listening() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with serving(tmp_path / "data", FARFRAME_REGION="cellar", **settings) as (process, connection, _):
            async with client_of(connection) as client:
                headers = {**await authorize(client, connection), "traceparent": f"00-{TRACE}-{PARENT}-01"}
                path = f"/accounts/{connection['accountId']}/sessions/secretive?api-version=2021-01-01"
                missing = await client.get(path, headers=headers)
                assert missing.status_code == 404
                async with asyncio.timeout(60):
                    while len(collector.spans) < 2:
                        await asyncio.sleep(0.05)
                await client.get("/health/live")  # what is not sent yet goes out at the end
            process.terminate()
            await asyncio.wait_for(process.communicate(), 60)
    names = [span.name for _, span in collector.spans]
    assert names[:2] == ["GET /accounts/{account}/token", "GET /accounts/{account}/sessions/{id}"]
    assert len(names) == 3
    facts, got = collector.spans[1]
    assert facts["service.name"] == "farframe"
    assert facts["cloud.region"] == "cellar"
    assert got.trace_id.hex() == TRACE
    assert got.parent_span_id.hex() == PARENT
    attributes = {each.key: each.value for each in got.attributes}
    assert attributes["http.response.status_code"].int_value == 404
    assert attributes["ms_cv"].string_value == missing.headers["ms-cv"]
    assert got.end_time_unix_nano >= got.start_time_unix_nano > 0
    sent = b"".join(collector.bodies)
    for secret in (connection["accountKey"], connection["accountId"], "secretive", headers["Authorization"][7:]):
        assert secret.encode() not in sent


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, None])
async def test_a_collector_that_does_not_take_them_harms_nobody(tmp_path: Path, status: int | None) -> None:
    async with Collector(status or 200).listening() as collector:
        url = collector.url if status else "http://127.0.0.1:1"
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with serving(tmp_path / "data", **settings) as (process, connection, _):
            async with client_of(connection) as client:
                headers = await authorize(client, connection)
                for _ in range(20):
                    assert (await client.get("/health/ready")).status_code == 200
            process.terminate()
            _, log = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    lines = log.decode().splitlines()
    assert all(json.loads(line) for line in lines), "the exporter's complaints are lines of the log like all others"
    assert any("export" in line.lower() for line in lines), "and not kept back"
    assert headers["Authorization"][7:] not in log.decode()
