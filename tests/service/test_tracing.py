"""Traces: one span a request, nothing of the caller's in it but the parent it names."""

from __future__ import annotations

from typing import Any

import pytest

from farframe.service.tracing import Tracing

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
