"""ICE, DTLS-SRTP and SCTP of one connection, from aiortc's and aioice's parts. The only place that knows their insides.

aiortc's ``RTCPeerConnection`` is not used: negotiation, the sending and the receiving of video are our own (see
``docs/streaming.md`` for why), so three of its parts remain, and each is bent where it does not fit. What is bent:

    Part                  Hook                              Reason
    --------------------  --------------------------------  ------------------------------------------------------------
    aioice StunProtocol   datagram_received                 note when the device was last heard; sort packets by their
                                                            first byte instead of by a failed STUN parse; hostile
                                                            datagrams must not raise in the event loop
    aioice StunProtocol   request                           remember the check under way, to repeat it (next line);
                                                            measure the round trip; note the consent
    aioice StunProtocol   send_stun                         an address that nobody has vouched for is sent no more
                                                            than three times what it sent
    aioice Connection     respond_error                     who does not know the password hears nothing
    aioice Connection     request_received                  the checks that come before ours may begin are bounded
    aioice Connection     data_received                     as is what waits to be read
    aioice Connection     check_incoming                    a lost check is sent again as soon as the other side is
                                                            heard, not after aioice's 500 ms (RFC 8445, 7.3.1.4)
    aioice Connection     gather_candidates                 own sockets: given host, port range, STUN and TURN servers
    aioice TurnTransport  is_closing (added)                as of other datagram transports
    aioice Connection     query_consent                     every second instead of every five, so that a device that is
                                                            alive but has nothing to say is heard; ends after 30 s
    aioice Connection     _nominated                        send in one call per packet, without a coroutine
    aiortc DtlsTransport  _handle_rtp_data,                 packets go to our own sender or receiver
                          _handle_rtcp_data
    aiortc DtlsTransport  _recv_next                        a packet that one of its parts chokes on (longer than
                                                            libsrtp takes, for one) must not end the connection
    aiortc DtlsTransport  _tx_srtp                          as _nominated
    aiortc DtlsTransport  _ssl                              whether the other side said goodbye
    aiortc DtlsTransport  _set_role, _task                  the role follows from our negotiation; await the end of its
                                                            task when closing
    aiortc SctpTransport  _handle_data                      a malformed message from a device must not end the transport
    aiortc SctpTransport  _rto                              a lost first packet costs 0.3 s instead of 3 s
    RTCIceTransport       replaced by a stand-in            of it, DTLS only uses ``_recv``, ``_send`` and ``role``

The hooked names are checked when this module is imported, so that another version fails at once and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import random
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aioice
import aiortc
import ifaddr
from aioice import stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol, server_reflexive_candidate
from aioice.turn import TurnTransport, create_turn_endpoint
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport
from OpenSSL import SSL

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.negotiation import SCTP_PORT, LocalCandidate, RemoteCandidate, TransportParameters

logger = logging.getLogger(__name__)

AIORTC_VERSION = "1.16."
AIOICE_VERSION = "0.13."

SOCKET_BUFFER_BYTES = 2 * 1024 * 1024
MAX_LOCAL_ADDRESSES = 8
PORT_ATTEMPTS = 400
STUN_TIMEOUT_SECONDS = 1.0
TURN_TIMEOUT_SECONDS = 1.5
CLOSE_TIMEOUT_SECONDS = 1.0
CONSENT_INTERVAL_SECONDS = 1.0
CONSENT_TIMEOUT_SECONDS = 30.0
"""A side that has not been heard for so long must not be sent to any more (RFC 7675)."""

UNPROVEN_FACTOR = 3
"""Bytes to an address without proof that it wants them, by bytes that came from it (as in RFC 9000, 8.1)."""

MAX_UNPROVEN_ADDRESSES = 64
MAX_LEARNED_CANDIDATES = 16
"""Addresses that are not in the offer and show the right credentials. A device has few; replayed checks have many."""

UNPROVEN_RETRANSMISSIONS = 4
"""Checks of such addresses last 15 s, as long as a connection may take to be made, and not aioice's minute."""

MAX_EARLY_CHECKS = 64
MAX_UNREAD_DATAGRAMS = 2048
"""More than the DTLS task ever has to wait with, unless somebody floods it."""

SCTP_FIRST_RETRY_SECONDS = 0.3
MAX_INBOUND_MESSAGE_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 262_144
"""Largest data channel message that we announce to accept; aiortc's own limit."""


def _check_hooks() -> None:
    """Raise ``ImportError`` unless the installed aiortc and aioice have every name that this module hooks."""
    problems = []
    for module, version in ((aiortc, AIORTC_VERSION), (aioice, AIOICE_VERSION)):
        if not module.__version__.startswith(version):
            problems.append(f"{module.__name__} is {module.__version__}, not {version}x")
    on_class: list[tuple[type, tuple[str, ...]]] = [
        (StunProtocol, ("datagram_received", "request", "send_stun")),
        (
            Connection,
            (
                "gather_candidates",
                "check_incoming",
                "query_consent",
                "data_received",
                "build_request",
                "request_received",
                "respond_error",
            ),
        ),
        (RTCDtlsTransport, ("_handle_rtp_data", "_handle_rtcp_data", "_recv_next", "_set_role")),
        (RTCSctpTransport, ("_handle_data",)),
    ]
    in_instance: list[tuple[type, tuple[str, ...]]] = [
        (
            Connection,
            (
                "_nominated",
                "_protocols",
                "_local_candidates",
                "_local_candidates_start",
                "_local_candidates_end",
                "_check_list",
                "_closing",
                "_early_checks",
                "_early_checks_done",
                "_queue",
                "_remote_candidates",
            ),
        ),
        (RTCDtlsTransport, ("_tx_srtp", "_task", "_ssl")),
        (RTCSctpTransport, ("_rto", "_advertised_rwnd")),
    ]
    for owner, names in on_class:
        problems += [f"{owner.__name__}.{name} is missing" for name in names if not hasattr(owner, name)]
    for owner, names in in_instance:
        set_names = owner.__init__.__code__.co_names  # type: ignore[misc]
        problems += [f"{owner.__name__}.{name} is not set" for name in names if name not in set_names]
    if problems:
        raise ImportError(
            f"farframe.stream is written for aiortc {AIORTC_VERSION}x and aioice {AIOICE_VERSION}x and reaches into "
            f"them; here {'; '.join(problems)}. Install the pinned versions."
        )


_check_hooks()


@dataclass(frozen=True)
class TurnServer:
    """A TURN server and what opens it. ``transport`` is ``udp`` or ``tcp``; ``tls`` is a context for TLS over TCP."""

    host: str
    port: int
    transport: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    tls: ssl.SSLContext | None = dataclasses.field(default=None, repr=False)


def parse_turn_server(uri: str, username: str, password: str, tls: ssl.SSLContext | None) -> TurnServer:
    """``turn:host:port?transport=udp`` and the like (RFC 7065); ``tls`` is for ``turns:``. Raises ``ValueError``."""
    match = re.fullmatch(
        r"(turns?):(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?", uri
    )
    if match is None or (match[1] == "turns" and match[4] == "udp"):
        raise ValueError(f"not a TURN server that can be used: {uri!r}")
    secure = match[1] == "turns"
    port = int(match[3] or (5349 if secure else 3478))
    transport = match[4] or ("tcp" if secure else "udp")
    return TurnServer(match[2].strip("[]"), port, transport, username, password, tls if secure else None)


@dataclass(frozen=True)
class TransportConfig:
    """Where a transport binds its UDP sockets and what it announces.

    ``bind_host`` is an IP address; the unspecified address (``0.0.0.0`` or ``::``) stands for all interfaces.
    ``public_addresses`` replace the addresses in announced candidates. Ports are drawn from ``port_min`` to
    ``port_max``; both 0 leave the choice to the system. ``stun_servers`` look like ``stun:host:port``; none is asked
    unless it is named here. ``turn_servers`` relay where nothing else gets through, or, with ``relay_only``, always.
    """

    bind_host: str = "127.0.0.1"
    public_addresses: tuple[str, ...] = ()
    port_min: int = 0
    port_max: int = 0
    stun_servers: tuple[str, ...] = ()
    turn_servers: tuple[TurnServer, ...] = ()
    relay_only: bool = False

    def __post_init__(self) -> None:
        for address in (self.bind_host, *self.public_addresses):
            ipaddress.ip_address(address)
        if not (self.port_min == self.port_max == 0 or 1 <= self.port_min <= self.port_max <= 65535):
            raise ValueError(f"not a range of UDP ports: {self.port_min} to {self.port_max}")
        for server in self.stun_servers:
            parse_stun_server(server)


def parse_stun_server(text: str) -> tuple[str, int]:
    """Host and port of ``stun:host:port`` (port 3478 unless given). Raises ``ValueError``."""
    match = re.fullmatch(r"stun:(\[[0-9A-Fa-f:.]+\]|[^:\s/?]+)(?::(\d{1,5}))?", text)
    if match is None:
        raise ValueError(f"not a STUN server: {text!r}; write stun:host:port")
    return match[1].strip("[]"), int(match[2] or 3478)


def local_addresses(bind_host: str) -> list[str]:
    """The addresses to bind: ``bind_host`` itself, or those of all interfaces when it is unspecified.

    ``0.0.0.0`` means IPv4 alone, ``::`` both. Loopback is used only where there is nothing else, for a device elsewhere
    cannot reach it and one on this machine reaches the others.
    """
    host = ipaddress.ip_address(bind_host)
    if not host.is_unspecified:
        return [bind_host]
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text)
            if address.is_loopback or address.is_link_local or (host.version == 4 and address.version == 6):
                continue
            found.append(text)
    return found[:MAX_LOCAL_ADDRESSES] or ["127.0.0.1"]


def bind_udp(host: str, port_min: int, port_max: int, *, chooser: random.Random | None = None) -> socket.socket:
    """A UDP socket bound to ``host`` and a random free port of the range. Raises ``OSError`` when none binds.

    Random ones are tried until one binds: a port that was free a moment ago may be taken now, so nothing is predicted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    choose = chooser or random.Random()  # noqa: S311 - spreads the ports, keeps no secret
    ports = (
        [0]
        if port_max == 0
        else choose.sample(range(port_min, port_max + 1), min(port_max - port_min + 1, PORT_ATTEMPTS))
    )
    failure: OSError | None = None
    for port in ports:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.setblocking(False)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            udp.bind((host, port))
        except OSError as error:
            udp.close()
            failure = error
        else:
            return udp
    raise OSError(f"no UDP port from {port_min} to {port_max} on {host} can be bound: {failure}")


class _Relayed:
    """A TURN allocation as a datagram transport, with the one method that aioice's lacks."""

    def __init__(self, transport: TurnTransport) -> None:
        self._transport = transport
        self._closing = False

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._transport.close()


class _Protocol(StunProtocol):  # type: ignore[misc]
    """One UDP socket, or an allocation at a TURN server."""

    def __init__(self, receiver: _Connection) -> None:
        super().__init__(receiver)
        self.checks: dict[tuple[str, int], stun.Message] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Relayed(transport) if isinstance(transport, TurnTransport) else transport)

    async def close(self) -> None:
        # Giving an allocation back takes an answer, which a network that is gone does not bring.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await super().close()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if not data:
            return
        source = (addr[0], addr[1])
        receiver: _Connection = self.receiver
        if data[0] > 3:  # RFC 7983: STUN begins with 0 to 3
            if receiver.takes_data_from(source):
                receiver.heard()
                receiver.data_received(data, 1)
            return
        receiver.unproven.received(source, len(data))
        try:
            super().datagram_received(data, source)
        except Exception as error:
            logger.debug("a malformed STUN packet was ignored: %r", error)
        else:
            if receiver.takes_data_from(source):
                receiver.heard()

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        receiver: _Connection = self.receiver
        data = bytes(message)
        # Without integrity it is a question to a STUN server, which nobody else can make us ask.
        ours = message.message_class is stun.Class.REQUEST and "MESSAGE-INTEGRITY" not in message.attributes
        if (ours or receiver.proven(addr) or receiver.unproven.may_send(addr, len(data))) and (
            not self.transport.is_closing()
        ):
            self.transport.sendto(data, addr)

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        self.checks[addr] = request
        if retransmissions is None and not self.receiver.proven(addr):
            retransmissions = UNPROVEN_RETRANSMISSIONS
        asked_at = time.monotonic()
        try:
            answer: tuple[stun.Message, tuple[str, int]] = await super().request(
                request, addr, integrity_key=integrity_key, retransmissions=retransmissions
            )
            if retransmissions == 0:  # a consent check: the answer is to this very packet
                self.receiver.consented()
                self.receiver.round_trip_seconds = time.monotonic() - asked_at
            return answer
        finally:
            self.checks.pop(addr, None)


class UnprovenAddresses:
    """How much may be sent to addresses that may be forged. Keeps the newest of them, a fixed number."""

    def __init__(self) -> None:
        self._allowances: dict[tuple[str, int], int] = {}

    def received(self, address: tuple[str, int], size: int) -> None:
        """So many bytes came from there."""
        allowance = self._allowances.pop(address, 0) + UNPROVEN_FACTOR * size
        self._allowances[address] = allowance
        if len(self._allowances) > MAX_UNPROVEN_ADDRESSES:
            del self._allowances[next(iter(self._allowances))]

    def may_send(self, address: tuple[str, int], size: int) -> bool:
        """Whether so many bytes may be sent there; if so, they are counted."""
        allowance = self._allowances.get(address, 0)
        if size > allowance:
            return False
        self._allowances[address] = allowance - size
        return True


class _Connection(Connection):  # type: ignore[misc]
    """An ICE agent on our own sockets."""

    def __init__(self, config: TransportConfig, *, controlling: bool, clock: Callable[[], float]) -> None:
        super().__init__(ice_controlling=controlling)
        self._config = config
        self._clock = clock
        self.last_heard = clock()
        self.consented_at = clock()
        self.round_trip_seconds = 0.0
        self.unproven = UnprovenAddresses()

    def heard(self) -> None:
        self.last_heard = self._clock()

    def consented(self) -> None:
        """The other side answered a check with its password: it wants what is sent (RFC 7675, 5.1)."""
        self.consented_at = self._clock()

    def takes_data_from(self, source: tuple[str, int]) -> bool:
        """Whether media and DTLS from there are looked at: the path's other end, or while there is none, any that a
        check vouches for."""
        pair = self._nominated.get(1)
        if pair is not None:
            return bool(pair.remote_addr == source)
        return any(pair.remote_addr == source for pair in self._check_list)

    def proven(self, address: tuple[str, int]) -> bool:
        """Whether the offer names this address, or it has answered a check."""
        if any(pair.remote_addr == address for pair in self._nominated.values()):
            return True
        return any(
            pair.remote_addr == address
            and (pair.remote_candidate.type != "prflx" or pair.state is CandidatePair.State.SUCCEEDED)
            for pair in self._check_list
        )

    def data_received(self, data: bytes, component: int) -> None:
        if self._queue.qsize() < MAX_UNREAD_DATAGRAMS:
            super().data_received(data, component)

    def respond_error(
        self, request: stun.Message, addr: tuple[str, int], protocol: StunProtocol, error_code: tuple[int, str]
    ) -> None:
        if error_code[0] not in (400, 401):
            super().respond_error(request, addr, protocol, error_code)

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        if self._early_checks_done or len(self._early_checks) < MAX_EARLY_CHECKS:
            super().request_received(message, addr, protocol)

    async def gather_candidates(self) -> None:
        self._local_candidates_start = True
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in [] if self._config.relay_only else local_addresses(self._config.bind_host):
            try:
                udp = bind_udp(address, self._config.port_min, self._config.port_max)
            except OSError as error:
                failure = error
                continue
            try:
                _, protocol = await loop.create_datagram_endpoint(lambda: _Protocol(self), sock=udp)
            except BaseException:
                udp.close()
                raise
            self._protocols.append(protocol)
            host, port = udp.getsockname()[:2]
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=1,
                transport="udp",
                priority=candidate_priority(1, "host", 65535 - len(self._protocols)),
                host=host,
                port=port,
                type="host",
            )
            self._local_candidates.append(protocol.local_candidate)
        if not self._protocols and failure is not None:
            raise OSError(str(failure))
        await asyncio.gather(self._ask_stun_servers(), self._ask_turn_servers())
        if not self._protocols:
            raise FarframeError(
                Result.HANDSHAKE_FAILED,
                "None of the TURN servers could be used: they did not answer or refused the credentials.",
                next_step="Check turn_servers and turn_secret of the service, or connect another way.",
            )
        self._local_candidates_end = True

    async def _ask_stun_servers(self) -> None:
        tasks = [
            asyncio.ensure_future(server_reflexive_candidate(protocol, parse_stun_server(server)))
            for server in self._config.stun_servers
            for protocol in self._protocols
            if ":" not in protocol.local_candidate.host
        ]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, timeout=STUN_TIMEOUT_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
        for task in done:
            if not task.cancelled() and task.exception() is None:
                self._local_candidates.append(task.result()[0])

    async def _ask_turn_servers(self) -> None:
        """Get an allocation at each TURN server; those that do not answer in time, or refuse, are left out."""
        tasks = [asyncio.ensure_future(self._allocate(server)) for server in self._config.turn_servers]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks, timeout=TURN_TIMEOUT_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for server, outcome in zip(self._config.turn_servers, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                logger.info("the TURN server %s:%d cannot be used: %r", server.host, server.port, outcome)

    async def _allocate(self, server: TurnServer) -> None:
        transport, protocol = await create_turn_endpoint(
            lambda: _Protocol(self),
            (server.host, server.port),
            server.username,
            server.password,
            ssl=server.tls,
            transport=server.transport,
        )
        self._protocols.append(protocol)
        host, port = transport.get_extra_info("sockname")[:2]
        related = transport.get_extra_info("related_address")
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("relay", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "relay", 65535 - len(self._protocols)),
            host=host,
            port=port,
            type="relay",
            related_address=related[0],
            related_port=related[1],
        )
        self._local_candidates.append(protocol.local_candidate)

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: _Protocol) -> None:
        known = any((c._network_host, c.port) == addr for c in self._remote_candidates)
        if not known and sum(c.type == "prflx" for c in self._remote_candidates) >= MAX_LEARNED_CANDIDATES:
            return
        super().check_incoming(message, addr, protocol)
        under_way = protocol.checks.get(addr)
        if under_way is None:
            return
        for pair in self._check_list:
            if pair.protocol is protocol and pair.remote_addr == addr:
                if pair.state is CandidatePair.State.IN_PROGRESS:
                    protocol.send_stun(under_way, addr)
                return

    async def query_consent(self) -> None:
        assert self.remote_password is not None  # connect() has checked it
        key = self.remote_password.encode()
        self.consented()  # the check that found the path
        while self._clock() - self.consented_at < CONSENT_TIMEOUT_SECONDS:
            await asyncio.sleep(CONSENT_INTERVAL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
            for pair in list(self._nominated.values()):
                request = self.build_request(pair, nominate=False)
                with contextlib.suppress(stun.TransactionError):
                    await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
        self._query_consent_task = None  # or close() would wait for this very task
        await self.close()


class _IcePath:
    """What DTLS needs of an ``RTCIceTransport``."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self._recv = connection.recv
        self._send = connection.send

    @property
    def role(self) -> str:
        return "controlling" if self.connection.ice_controlling else "controlled"


class _Dtls(RTCDtlsTransport):  # type: ignore[misc]
    """DTLS whose RTP and RTCP go to ``on_rtp`` and ``on_rtcp`` as bytes."""

    on_rtp: Callable[[bytes], None] | None = None
    on_rtcp: Callable[[bytes], None] | None = None

    async def _recv_next(self) -> None:
        try:
            await super()._recv_next()
        except (ValueError, IndexError, struct.error) as error:
            logger.debug("a malformed packet was ignored: %r", error)

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        _guarded(self.on_rtp, data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        _guarded(self.on_rtcp, data)


def _guarded(callback: Callable[[bytes], None] | None, data: bytes) -> None:
    if callback is None:
        return
    try:
        callback(data)
    except Exception:
        logger.exception("a media packet could not be handled")


class _Sctp(RTCSctpTransport):  # type: ignore[misc]
    """SCTP that survives malformed messages and bounds what a device can make it keep."""

    async def _handle_data(self, data: bytes) -> None:
        try:
            await super()._handle_data(data)
        except ConnectionError:
            raise
        except Exception as error:
            logger.info("a malformed data channel packet was ignored: %r", error)
        if self._advertised_rwnd < -MAX_INBOUND_MESSAGE_BYTES:
            await self.stop()


class MediaTransport:
    """One connection: ICE, then DTLS, then SRTP beside SCTP. Not thread-safe: everything on the loop's thread.

    Order of calls: :meth:`gather`, :meth:`connect`, :meth:`open_data`; :meth:`close` at any time.
    """

    def __init__(
        self, config: TransportConfig, *, controlling: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._connection = _Connection(config, controlling=controlling, clock=clock)
        self._dtls = _Dtls(_IcePath(self._connection), [RTCCertificate.generateCertificate()])
        self._sctp = _Sctp(self._dtls)
        self._sctp._rto = SCTP_FIRST_RETRY_SECONDS
        self._closed = False
        self.on_rtp: Callable[[bytes], None] = _ignore
        self.on_rtcp: Callable[[bytes], None] = _ignore
        self.on_channel: Callable[[RTCDataChannel], None] | None = None
        self.on_lost: Callable[[bool], None] | None = None
        """Called once when a connected transport ends by itself; the argument: whether the other side said so."""
        self.bytes_sent = 0
        self.packets_sent = 0

    @property
    def last_heard(self) -> float:
        """When the other side was last heard, by the clock that was passed in."""
        return self._connection.last_heard

    @property
    def path_found(self) -> bool:
        """Whether ICE has agreed on a path."""
        return bool(self._connection._nominated)

    @property
    def path_relayed(self) -> bool:
        """Whether that path goes by way of a TURN server of ours."""
        return any(pair.local_candidate.type == "relay" for pair in self._connection._nominated.values())

    @property
    def round_trip_seconds(self) -> float:
        """Time from a consent check to its answer, the newest; 0 before the first."""
        return self._connection.round_trip_seconds

    def parameters(self, setup: str) -> TransportParameters:
        """Our side of a description."""
        fingerprints = tuple(
            (f.algorithm, f.value) for f in self._dtls.getLocalParameters().fingerprints if f.algorithm == "sha-256"
        )
        return TransportParameters(
            self._connection.local_username, self._connection.local_password, fingerprints, setup
        )

    def use_turn(self, servers: tuple[TurnServer, ...], *, relay_only: bool) -> None:
        """Use these TURN servers, besides other paths or instead of them. Before :meth:`gather`."""
        self._config = dataclasses.replace(self._config, turn_servers=servers, relay_only=relay_only)
        self._connection._config = self._config

    async def gather(self) -> tuple[LocalCandidate, ...]:
        """Bind the sockets and return what to announce. Raises :class:`FarframeError` when no port can be bound."""
        try:
            await self._connection.gather_candidates()
        except OSError as error:
            raise FarframeError(
                Result.FAIL,
                f"The video transport has no UDP port: {error}.",
                next_step="Widen the server's port range.",
            ) from error
        announced = tuple(self._announced())
        if not announced:
            raise FarframeError(
                Result.FAIL,
                "None of the server's public addresses is of the kind (IPv4, IPv6) that its sockets are bound to.",
                next_step="Name a public address of that kind, or bind another host.",
            )
        return announced

    def _announced(self) -> list[LocalCandidate]:
        announced: list[LocalCandidate] = []
        public = [ipaddress.ip_address(address) for address in self._config.public_addresses]
        for candidate in self._connection.local_candidates:
            hosts = [candidate.host]
            if public and candidate.type == "host":
                version = ipaddress.ip_address(candidate.host).version
                hosts = [str(address) for address in public if address.version == version]
            announced += [
                LocalCandidate(
                    candidate.foundation,
                    candidate.priority - index,
                    host,
                    candidate.port,
                    candidate.type,
                    candidate.related_address,
                    candidate.related_port,
                )
                for index, host in enumerate(hosts)
            ]
        return announced

    async def connect(
        self, remote: TransportParameters, candidates: tuple[RemoteCandidate, ...], *, local_setup: str
    ) -> None:
        """Find a path and shake hands. Raises ``ConnectionError``; bound the time with ``asyncio.timeout``.

        The end of the other side's candidates is never signalled to aioice: one that hides its addresses behind mDNS
        names offers none that we use, and is found by its own checks.
        """
        connection = self._connection
        connection.remote_is_lite = remote.lite
        connection.remote_username = remote.username
        connection.remote_password = remote.password
        if remote.lite:
            connection.ice_controlling = True
        for candidate in candidates:
            await connection.add_remote_candidate(
                Candidate(
                    candidate.foundation, 1, "udp", candidate.priority, candidate.host, candidate.port, candidate.kind
                )
            )
        await connection.connect()
        self._dtls.on_rtp = self.on_rtp
        self._dtls.on_rtcp = self.on_rtcp
        self._dtls._set_role("client" if local_setup == "active" else "server")
        fingerprints = [RTCDtlsFingerprint(algorithm, value) for algorithm, value in remote.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints))
        if self._dtls.state != "connected":
            raise ConnectionError("the DTLS handshake failed")
        self._dtls.on("statechange", self._dtls_changed)

    async def open_data(self, remote_port: int, max_message_bytes: int) -> None:
        """Start SCTP; channels that exist already are opened, the other side's come to ``on_channel``."""
        self._sctp.on("datachannel", self._channel_opened)
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=max_message_bytes), remote_port or SCTP_PORT)

    def create_channel(self, label: str, *, ordered: bool = True, max_retransmits: int | None = None) -> RTCDataChannel:
        """A data channel that opens as soon as the transport does."""
        return RTCDataChannel(
            self._sctp, RTCDataChannelParameters(label=label, ordered=ordered, maxRetransmits=max_retransmits)
        )

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self.on_channel is not None:
            self.on_channel(channel)

    def _dtls_changed(self) -> None:
        if self._dtls.state in ("closed", "failed") and not self._closed:
            callback, self.on_lost = self.on_lost, None
            if callback is not None:
                # Sockets that fail under it, as when an interface goes away, end DTLS as well, but say nothing.
                callback(bool(self._dtls._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN))

    def send_rtp(self, data: bytes) -> None:
        """Encrypt and send one RTP packet; silently nothing when there is no path."""
        pair = self._connection._nominated.get(1)
        if pair is None or self._dtls.state != "connected" or pair.protocol.transport.is_closing():
            return
        protected = self._dtls._tx_srtp.protect(data)
        pair.protocol.transport.sendto(protected, pair.remote_addr)
        self.bytes_sent += len(protected)
        self.packets_sent += 1

    def send_rtcp(self, data: bytes) -> None:
        """Encrypt and send one compound RTCP packet; silently nothing when there is no path."""
        pair = self._connection._nominated.get(1)
        if pair is None or self._dtls.state != "connected" or pair.protocol.transport.is_closing():
            return
        protected = self._dtls._tx_srtp.protect_rtcp(data)
        pair.protocol.transport.sendto(protected, pair.remote_addr)

    @property
    def connected(self) -> bool:
        """Whether media can be sent now."""
        return bool(self._dtls.state == "connected") and not self._closed

    async def close(self) -> None:
        """Say goodbye, end every task and close every socket. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        task = self._dtls._task
        for step in (self._sctp.stop, self._dtls.stop):
            await _quietly(step())
        if task is not None:
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task
        await _quietly(self._connection.close())
        self._dtls.remove_all_listeners()

    def abandon(self) -> None:
        """Close the sockets without a word, as a device that loses its power does. For tests of silence."""
        for protocol in self._connection._protocols:
            protocol.transport.close()


async def _quietly(step: Coroutine[Any, Any, None]) -> None:
    try:
        await step
    except Exception as error:
        logger.debug("an error while closing a transport: %r", error)


def _ignore(data: bytes) -> None:
    """Drop a packet for which nobody waits."""
