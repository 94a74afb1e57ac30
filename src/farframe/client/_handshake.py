"""The handshake (WHEP): an SDP offer is posted, the answer comes back, the resource's DELETE ends the connection."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

import httpx

from farframe.client._http import MAX_ATTEMPTS, ServiceHttp, error_of
from farframe.client.errors import AuthenticationError, FarframeClientError, HandshakeError, ServiceUnreachableError
from farframe.protocol.errors import Result
from farframe.protocol.socket_stream import RESUME_PREFIX, WATCH_SUBPROTOCOL

if TYPE_CHECKING:
    from farframe.client.session import Relayed, SessionProperties

DIRECT_TIMEOUT = httpx.Timeout(20.0, connect=3.0)
TRIED_TIMEOUT = httpx.Timeout(20.0, connect=1.0)
"""For an address after which there is another one to try."""

RESUME_HEADER = "Farframe-Resume"
END_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
MAX_ANSWER_BYTES = 256 * 1024

_RESULTS = {
    400: Result.HANDSHAKE_FAILED,
    401: Result.AUTHENTICATION_FAILED,
    403: Result.AUTHENTICATION_FAILED,
    404: Result.SESSION_NOT_READY,
    406: Result.VIDEO_CODEC_NOT_AVAILABLE,
    409: Result.OTHER_SESSION_CONNECTED,
    503: Result.SESSION_NOT_READY,
}

_STEPS = {
    Result.OTHER_SESSION_CONNECTED: "Disconnect the other device, or create another session.",
    Result.SESSION_NOT_READY: "Wait until the session is ready, or create another one.",
    Result.AUTHENTICATION_FAILED: "Check accountId and accountKey in the connection file.",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a handshake asks for beside a connection: to watch only; to have the scene back that the secret is for."""

    watch: bool = False
    resume: str = field(default="", repr=False)

    @property
    def subprotocols(self) -> list[str]:
        """The same for the upgrade of a WebSocket."""
        watch = [WATCH_SUBPROTOCOL] if self.watch else []
        return [*watch, f"{RESUME_PREFIX}{self.resume}"] if self.resume else watch


NO_WISH = Wish()


@dataclass(frozen=True, slots=True)
class Handshake:
    """A handshake that was answered: the SDP answer and the URL whose DELETE ends the connection."""

    answer_sdp: str
    resource_url: str = field(repr=False)
    relayed: bool = False
    unreachable: bool = False
    """Whether the render server was tried directly, and could not be reached."""


def handshake_urls(http: ServiceHttp, session: SessionProperties, relayed: Relayed) -> list[tuple[str, bool]]:
    """Where to post the offer, in order, and whether that is through the service."""
    through_service = (http.account_url(f"sessions/{quote(session.id, safe='')}/whep"), True)
    if relayed is True or session.hostname is None or session.handshake_port is None:
        return [through_service]
    direct = (f"https://{host_of(session)}:{session.handshake_port}/whep", False)
    return [direct] if relayed is False else [direct, through_service]


def host_of(session: SessionProperties) -> str:
    """The render server's name as it is written in URLs."""
    name = session.hostname or ""
    return f"[{name}]" if ":" in name else name


async def shake_hands(
    http: ServiceHttp, session: SessionProperties, offer_sdp: str, relayed: Relayed, wish: Wish = NO_WISH
) -> Handshake:
    """Post the offer; with ``"auto"`` the service relays it if the server cannot be reached from here.

    Raises HandshakeError, AuthenticationError, ServiceUnreachableError.
    """
    urls = handshake_urls(http, session, relayed)
    headers = {"Content-Type": "application/sdp", "Accept": "application/sdp"}
    if wish.resume:
        headers[RESUME_HEADER] = wish.resume
    for url, through_service in urls:
        last = (url, through_service) == urls[-1]
        try:
            response = await http.request(
                "POST",
                str(httpx.URL(url).copy_add_param("watch", "")) if wish.watch else url,
                content=offer_sdp.encode(),
                headers=headers,
                timeout=DIRECT_TIMEOUT if last else TRIED_TIMEOUT,
                accept_errors=True,
                attempts=MAX_ATTEMPTS if last else 1,
            )
        except ServiceUnreachableError as error:
            # Only what surely did not arrive may go the other way: otherwise the server would see two devices.
            never_sent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
            if never_sent and not last:
                continue
            raise
        return _read(response, url, through_service, unreachable=last and len(urls) > 1)
    raise HandshakeError(Result.HANDSHAKE_FAILED, "There is no address to connect to.")  # pragma: no cover


def _read(response: httpx.Response, url: str, through_service: bool, *, unreachable: bool) -> Handshake:
    if response.status_code >= 400:
        raise _refusal(response)
    location = response.headers.get("location", "")
    resource = urljoin(url, location)
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    usable = response.status_code == 201 and content_type == "application/sdp" and location
    if not usable or len(response.content) > MAX_ANSWER_BYTES:
        raise HandshakeError(
            Result.HANDSHAKE_FAILED,
            f"The handshake was answered with something that is no answer (status {response.status_code}).",
            next_step="Check that service and client have the same version.",
        )
    # The token goes with the DELETE: never to another host than the one just spoken to.
    if httpx.URL(resource).netloc != httpx.URL(url).netloc or httpx.URL(resource).scheme != httpx.URL(url).scheme:
        raise HandshakeError(
            Result.HANDSHAKE_FAILED,
            "The handshake's answer points to another host.",
            next_step="Check the service's public name.",
        )
    return Handshake(response.content.decode("utf-8", "replace"), resource, through_service, unreachable)


def _refusal(response: httpx.Response) -> FarframeClientError:
    """A render server names a result and says itself what to do; the service and proxies in between may not."""
    error = error_of(response, "The session's render server")
    try:
        return HandshakeError(Result(error.code), error.message)
    except ValueError:
        result = _RESULTS.get(response.status_code, Result.HANDSHAKE_FAILED)
    if isinstance(error, AuthenticationError):
        return error
    return HandshakeError(result, error.message, next_step=_STEPS.get(result, error.next_step))


async def give_up(http: ServiceHttp, session: SessionProperties, relayed: Relayed, secret: str = "") -> None:
    """Have the scene of a device that was lost emptied: with its secret, or as an Administrator of the account.

    Raises HandshakeError (InvalidId: nothing is kept; OtherSessionConnected: the device is connected) and what else
    goes wrong.
    """
    urls = handshake_urls(http, session, relayed)
    for url, _ in urls:
        try:
            response = await http.request(
                "DELETE",
                url,
                headers={RESUME_HEADER: secret} if secret else {},
                timeout=END_TIMEOUT,
                idempotent=False,
                accept_errors=True,
            )
        except ServiceUnreachableError:
            if url == urls[-1][0]:
                raise
            continue
        if response.status_code >= 400:
            raise _refusal(response)
        return


async def say_goodbye(http: ServiceHttp, handshake: Handshake) -> bool:
    """End the connection at the server; whether it was there. What goes wrong is left to the server's own timeout."""
    with contextlib.suppress(FarframeClientError):
        answer = await http.request(
            "DELETE", handshake.resource_url, idempotent=False, timeout=END_TIMEOUT, accept_errors=True
        )
        return answer.status_code < 400
    return False
