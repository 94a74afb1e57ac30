"""Fakes that every client test shares: a service behind httpx's transport seam, a server behind the media seam."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import httpx
import pytest

from farframe.client import ConnectionInfo, RemoteRenderingClient

ACCOUNT = "00000000-0000-4000-8000-000000000001"
KEY = "the-account-key"
ENDPOINT = "https://farframe.test:8443"


def token(expires: float, serial: int = 0) -> str:
    """A token as the service makes them; nobody verifies it here."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'exp': expires, 'serial': serial})}.signature"


@dataclass
class FakeService:
    """Routes by method and path; ``answers`` overrides the next answers to a route, in order."""

    requests: list[httpx.Request] = field(default_factory=list)
    sessions: dict[str, dict[str, object]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    answers: dict[tuple[str, str], list[httpx.Response | Exception | Callable[[], httpx.Response]]] = field(
        default_factory=dict
    )
    polls_until_ready: int = 2
    token_seconds: float = 3600
    tokens: int = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        path = unquote(request.url.path)
        waiting = self.answers.get((request.method, path))
        if waiting:
            answer = waiting.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer() if callable(answer) else answer
        if path == f"/Accounts/{ACCOUNT}/token":
            if request.headers["authorization"] != f"Bearer {ACCOUNT}:{KEY}":
                return httpx.Response(401)
            self.tokens += 1
            return httpx.Response(200, json={"AccessToken": token(time.time() + self.token_seconds, self.tokens)})
        if request.url.params.get("api-version") != "2021-01-01" and path.startswith("/accounts/"):
            return error(400, "ApiVersionUnspecified", "No api-version.")
        if not request.headers["authorization"].endswith(".signature"):
            return httpx.Response(401)
        return self._account(request, path.removeprefix(f"/accounts/{ACCOUNT}/"))

    def _account(self, request: httpx.Request, path: str) -> httpx.Response:
        kind, _, rest = path.partition("/")
        if kind == "uploads" and request.method == "PUT":
            self.uploads[rest] = request.content
            return httpx.Response(
                201, json={"uri": f"upload://{rest}", "bytes": len(request.content), "expirationTime": "x"}
            )
        if kind == "viewer-links":
            body = json.loads(request.content)
            wanted = body.get("sessionId") or body["page"]
            url = f"http://localhost:8080/view#{wanted}"
            return httpx.Response(201, json={"url": url, "expiresAt": "2031-01-01T00:00:00Z"})
        if kind != "sessions":
            return error(404, "NotFound", "There is no such route.")
        if not rest:
            live = [item for item in self.sessions.values() if item["status"] in ("Starting", "Ready")]
            return httpx.Response(200, json={"sessions": live})
        return self._session(request, rest)

    def _session(self, request: httpx.Request, rest: str) -> httpx.Response:
        name, _, action = rest.partition("/")
        if request.method == "PUT":
            body = json.loads(request.content)
            self.sessions[name] = {
                "id": name,
                "creationTime": "2024-05-01T08:00:00.1234567+00:00",
                "elapsedTimeMinutes": 0,
                "maxLeaseTimeMinutes": body["maxLeaseTimeMinutes"],
                "size": body["size"],
                "status": "Starting",
            }
            return httpx.Response(201, json=self.sessions[name])
        session = self.sessions.get(name)
        if session is None:
            return httpx.Response(404)
        if action == "inspector-link" and request.method == "POST":
            if session["status"] != "Ready":
                return error(409, "SessionNotReady", "The session has no render server; wait until it is Ready.")
            url = f"https://{session['hostname']}:{session['arrInspectorPort']}/#token=a.b.c"
            return httpx.Response(201, json={"url": url, "expiresAt": "2031-01-01T00:00:00Z"})
        if request.method == "PATCH":
            session["maxLeaseTimeMinutes"] = json.loads(request.content)["maxLeaseTimeMinutes"]
        elif action == ":stop":
            session["status"] = "Stopped"
            return httpx.Response(204)
        elif session["status"] == "Starting":
            self.polls_until_ready -= 1
            if self.polls_until_ready <= 0:
                session.update(
                    status="Ready", hostname="render.test", handshakePort=50051, arrInspectorPort=50052, teraflops=0.3
                )
        return httpx.Response(200, json=session)

    def seen(self, method: str, path: str = "") -> list[httpx.Request]:
        """The requests of that method whose path holds ``path``."""
        return [item for item in self.requests if item.method == method and path in unquote(item.url.path)]


def error(status: int, code: str, message: str, **headers: str) -> httpx.Response:
    """An error as the service writes it."""
    return httpx.Response(status, json={"error": {"code": code, "message": message}}, headers=headers)


def connection_info(**changes: object) -> ConnectionInfo:
    values = {"endpoint": ENDPOINT, "sts_endpoint": ENDPOINT, "account_id": ACCOUNT, "account_key": KEY}
    return ConnectionInfo(**{**values, **changes})


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[RemoteRenderingClient]:
    async with RemoteRenderingClient(connection_info(), transport=httpx.MockTransport(service.handle)) as client:
        waits: list[float] = []

        async def no_wait(seconds: float) -> None:
            waits.append(seconds)

        client._http.sleep = no_wait
        yield client
