"""OpenTelemetry traces, where the environment asks for them: one span a request.

``OTEL_EXPORTER_OTLP_ENDPOINT`` turns them on and says where they go (OTLP over HTTP); the packages of the extra
``farframe[traces]`` must be there. Without the variable nothing is imported and nothing costs anything. A span has the
route's pattern and the correlation vector, and no id, query or header of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from litestar.types import HTTPScope

from farframe import __version__
from farframe.service.frontier import RequestTracing
from farframe.service.operations import route_of

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
SERVICE_NAME = "farframe"


class TracingError(Exception):
    """Traces are asked for and cannot be made; the message says what is missing."""


class Tracing:
    """Makes a span for each request; give :meth:`request` to the frontier and :meth:`close` at the end."""

    def __init__(self, provider: Any) -> None:
        """``provider`` is an OpenTelemetry ``TracerProvider``."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE_NAME, __version__)
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], region: str) -> Tracing | None:
        """What the environment asks for, or ``None``. Raises :class:`TracingError`."""
        if not environment.get(ENDPOINT_VARIABLE):
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingError(
                f"{ENDPOINT_VARIABLE} asks for traces, but a package is missing: {error}. "
                "Install farframe[traces], or unset the variable."
            ) from None
        facts = {"service.name": SERVICE_NAME, "service.version": __version__, "cloud.region": region}
        provider = TracerProvider(resource=Resource.create(facts))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @property
    def request(self) -> RequestTracing:
        """A context for one request, which the frontier enters."""
        return self._request

    def close(self) -> None:
        """Send what is left. Blocks for some seconds at most."""
        self._provider.shutdown()

    def _request(
        self, scope: HTTPScope, segments: Sequence[str], vector: str, status: Callable[[], int]
    ) -> AbstractContextManager[None]:
        @contextmanager
        def span() -> Iterator[None]:
            from opentelemetry.trace import SpanKind, StatusCode

            route = route_of(segments)
            carrier = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in scope["headers"]
                if name in (b"traceparent", b"tracestate")
            }
            with self._tracer.start_as_current_span(
                f"{scope['method']} {route}",
                context=self._propagator.extract(carrier),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": scope["method"], "http.route": route, "ms_cv": vector},
            ) as current:
                try:
                    yield
                finally:
                    current.set_attribute("http.response.status_code", status())
                    if status() >= 500:
                        current.set_status(StatusCode.ERROR)

        return span()
