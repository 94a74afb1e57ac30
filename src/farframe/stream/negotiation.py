"""Offers and answers (SDP, RFC 8866; JSEP, RFC 9429), reduced to what Farframe speaks. No I/O.

One bundled transport carries one video, sent by the server, and the data channels. The codec is chosen here and
explicitly: H.264 in packetization mode 1, whatever the order in the offer, and nothing else is ever answered. What an
offer holds beside that (audio, further videos) is declined in the answer. Offers are hostile input: size, lines,
sections, codecs and candidates are limited, and whatever does not parse becomes one typed error.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from farframe.protocol.errors import FarframeError, Result

MAX_DESCRIPTION_BYTES = 64 * 1024
MAX_LINES = 2000
MAX_SECTIONS = 16
MAX_CODECS = 256
MAX_CANDIDATES = 32

ABS_SEND_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_SEQUENCE_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
PLAYOUT_DELAY_URI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"

SCTP_PORT = 5000
DEFAULT_MAX_MESSAGE_BYTES = 65536
VIDEO_CLOCK_RATE_HZ = 90_000
REPAIR_WINDOW_MICROSECONDS = 200_000
"""How long a parity packet may follow the first packet that it covers; the draft wants to know."""

_PROFILE_PREFERENCE = ("constrained baseline", "baseline", "main", "constrained high", "high")
_FEEDBACK = ("nack", "nack pli", "ccm fir", "transport-cc", "goog-remb")

_ICE_CHARACTERS = re.compile(r"[A-Za-z0-9+/]+")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){19,63}")
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")


@dataclass(frozen=True, slots=True)
class RemoteCandidate:
    """A UDP address where the other side may be reached."""

    foundation: str
    priority: int
    host: str
    port: int
    kind: str


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """A UDP address that is announced to the other side."""

    foundation: str
    priority: int
    host: str
    port: int
    kind: str = "host"
    related_host: str | None = None
    related_port: int | None = None

    def __str__(self) -> str:
        text = f"{self.foundation} 1 udp {self.priority} {self.host} {self.port} typ {self.kind}"
        if self.related_host is not None:
            text += f" raddr {self.related_host} rport {self.related_port}"
        return text


@dataclass(frozen=True, slots=True)
class TransportParameters:
    """The ICE and DTLS side of a description. ``setup`` is ``actpass``, ``active`` or ``passive``.

    The password is a secret of one connection and never shown.
    """

    username: str
    password: str = field(repr=False)
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    lite: bool = False


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """H.264 as negotiated. Payload types and header extension ids are the offerer's; an id of 0 means not agreed."""

    payload_type: int
    retransmission_type: int | None
    profile: str
    parameters: str
    feedback: tuple[str, ...]
    abs_send_time_id: int = 0
    playout_delay_id: int = 0
    transport_sequence_id: int = 0
    """Of the number that transport-wide feedback reports; agreed only together with that feedback, and then neither
    REMB nor ``abs-send-time`` is."""
    protection_type: int | None = None
    """Of forward error correction (FlexFEC-03); agreed only together with transport-wide feedback, which says when it
    is of use."""


@dataclass(frozen=True, slots=True)
class Section:
    """One ``m=`` section of an offer, as far as an answer has to repeat it."""

    kind: str
    protocol: str
    formats: str
    mid: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device offers, checked."""

    sections: tuple[Section, ...]
    video_mid: str
    data_mid: str
    transport: TransportParameters
    codec: VideoCodec
    candidates: tuple[RemoteCandidate, ...]
    sctp_port: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers, checked."""

    transport: TransportParameters
    codec: VideoCodec
    candidates: tuple[RemoteCandidate, ...]
    video_ssrc: int
    retransmission_ssrc: int | None
    protection_ssrc: int | None
    sctp_port: int
    max_message_bytes: int


@dataclass(slots=True)
class _Parsed:
    kind: str
    port: int
    protocol: str
    formats: str
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.attributes)


def _handshake_error(message: str) -> FarframeError:
    return FarframeError(
        Result.HANDSHAKE_FAILED,
        message,
        next_step="Send the offer of a WebRTC peer connection that receives one video and has data channels.",
    )


def _split(text: str) -> tuple[_Parsed, list[_Parsed]]:
    """The session level and the sections of a description. Raises :class:`FarframeError` (HandshakeFailed)."""
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise _handshake_error(f"The description is larger than {MAX_DESCRIPTION_BYTES} bytes.")
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise _handshake_error(f"The description has more than {MAX_LINES} lines.")
    if not lines or lines[0].strip() != "v=0":
        raise _handshake_error("This is not a session description: it does not begin with v=0.")
    session = _Parsed("session", 0, "", "")
    sections: list[_Parsed] = []
    current = session
    for raw in lines[1:]:
        line = raw.strip()
        if line.startswith("m="):
            parts = line[2:].split(" ", 3)
            if len(parts) != 4 or not parts[1].isdecimal() or len(parts[1]) > 5:
                raise _handshake_error("The description has a malformed media section.")
            current = _Parsed(parts[0], int(parts[1]), parts[2], parts[3])
            sections.append(current)
            if len(sections) > MAX_SECTIONS:
                raise _handshake_error(f"The description has more than {MAX_SECTIONS} media sections.")
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            current.attributes.append((name, value.strip()))
    return session, sections


def _number(text: str, low: int, high: int, name: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
        raise _handshake_error(f"The description's {name} is not a number from {low} to {high}.")
    return int(text)


def _transport(session: _Parsed, section: _Parsed) -> TransportParameters:
    username = section.first("ice-ufrag") or session.first("ice-ufrag") or ""
    password = section.first("ice-pwd") or session.first("ice-pwd") or ""
    if not 4 <= len(username) <= 256 or not 22 <= len(password) <= 256:
        raise _handshake_error("The description has no ICE user name and password of the right length.")
    if not _ICE_CHARACTERS.fullmatch(username) or not _ICE_CHARACTERS.fullmatch(password):
        raise _handshake_error("The description's ICE user name or password holds a character that they may not have.")
    fingerprints = []
    for text in (section.all("fingerprint") or session.all("fingerprint"))[:8]:
        algorithm, _, value = text.partition(" ")
        if algorithm.lower() in ("sha-256", "sha-384", "sha-512") and _FINGERPRINT.fullmatch(value):
            fingerprints.append((algorithm.lower(), value.upper()))
    if not fingerprints:
        raise _handshake_error(
            "The description has no certificate fingerprint that can be checked (sha-256 or longer)."
        )
    setup = section.first("setup") or session.first("setup") or ""
    if setup not in ("actpass", "active", "passive"):
        raise _handshake_error("The description's DTLS setup is none of actpass, active and passive.")
    lite = session.has("ice-lite")
    return TransportParameters(username, password, tuple(fingerprints), setup, lite)


def parse_candidate(text: str) -> RemoteCandidate | None:
    """The value of an ``a=candidate`` attribute; ``None`` for one that cannot be used here (TCP, mDNS names, ...).

    Names that end in ``.local`` are skipped instead of resolved: the device's own checks show its address sooner.
    """
    parts = text.split()
    if len(parts) < 8 or parts[1] != "1" or parts[2].lower() != "udp" or parts[6] != "typ":
        return None
    if parts[7] not in ("host", "srflx", "relay") or len(parts[0]) > 64:
        return None
    if not (parts[3].isdecimal() and parts[5].isdecimal()) or len(parts[3]) > 10 or len(parts[5]) > 5:
        return None
    try:
        address = ipaddress.ip_address(parts[4])
    except ValueError:
        return None
    port = int(parts[5])
    if not 1 <= port <= 65535 or address.is_unspecified or address.is_multicast:
        return None
    return RemoteCandidate(parts[0], int(parts[3]) & 0xFFFFFFFF, str(address), port, parts[7])


def _candidates(section: _Parsed) -> tuple[RemoteCandidate, ...]:
    found = []
    for text in section.all("candidate")[:MAX_CANDIDATES]:
        candidate = parse_candidate(text)
        if candidate is not None:
            found.append(candidate)
    return tuple(found)


def _format_parameters(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}


def h264_profile(profile_level_id: str) -> str | None:
    """The name of an H.264 profile (RFC 6184, table 5); ``None`` for one that our stream does not fit into."""
    if not re.fullmatch(r"[0-9A-Fa-f]{6}", profile_level_id):
        return None
    profile, constraints = int(profile_level_id[:2], 16), int(profile_level_id[2:4], 16)
    if profile == 0x42:
        return "constrained baseline" if constraints & 0x40 else "baseline"
    if profile == 0x4D:
        return "constrained baseline" if constraints & 0x80 else "main"
    if profile == 0x64:
        return "constrained high" if constraints & 0x0C == 0x0C else "high"
    return None


def _choose_codec(section: _Parsed) -> VideoCodec | None:
    offered = section.formats.split()
    names: dict[str, str] = {}
    for text in section.all("rtpmap")[:MAX_CODECS]:
        payload_type, _, encoding = text.partition(" ")
        if payload_type in offered:
            names[payload_type] = encoding.strip().lower()
    parameters: dict[str, str] = {}
    for text in section.all("fmtp")[:MAX_CODECS]:
        payload_type, _, value = text.partition(" ")
        parameters[payload_type] = value.strip()
    best: tuple[int, str, str] | None = None
    for payload_type, encoding in names.items():
        if encoding != f"h264/{VIDEO_CLOCK_RATE_HZ}" or not _usable_payload_type(payload_type):
            continue
        values = _format_parameters(parameters.get(payload_type, ""))
        profile = h264_profile(values.get("profile-level-id", "42e01f"))
        if values.get("packetization-mode", "0") != "1" or profile is None:
            continue
        rank = _PROFILE_PREFERENCE.index(profile)
        if best is None or rank < best[0]:
            best = (rank, payload_type, profile)
    if best is None:
        return None
    _, chosen, profile = best
    feedback = {
        value.strip().lower()
        for payload_type, _, value in (text.partition(" ") for text in section.all("rtcp-fb")[: 4 * MAX_CODECS])
        if payload_type in ("*", chosen)
    }
    retransmission = next(
        (
            int(payload_type)
            for payload_type, encoding in names.items()
            if encoding == f"rtx/{VIDEO_CLOCK_RATE_HZ}"
            and _usable_payload_type(payload_type)
            and _format_parameters(parameters.get(payload_type, "")).get("apt") == chosen
        ),
        None,
    )
    protection = next(
        (
            int(payload_type)
            for payload_type, encoding in names.items()
            if encoding == f"flexfec-03/{VIDEO_CLOCK_RATE_HZ}" and _usable_payload_type(payload_type)
        ),
        None,
    )
    extensions: dict[str, int] = {}
    for text in section.all("extmap")[:64]:
        identifier, _, uri = text.partition(" ")
        identifier = identifier.partition("/")[0]
        if identifier.isdecimal() and len(identifier) < 3 and 1 <= int(identifier) <= 14:
            extensions.setdefault(uri.split(" ")[0], int(identifier))
    values = _format_parameters(parameters.get(chosen, ""))
    level = values.get("profile-level-id", "42e01f")
    transport_sequence_id = extensions.get(TRANSPORT_SEQUENCE_URI, 0) if "transport-cc" in feedback else 0
    unused = "goog-remb" if transport_sequence_id else "transport-cc"
    return VideoCodec(
        payload_type=int(chosen),
        retransmission_type=retransmission,
        profile=profile,
        parameters=f"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={level}",
        feedback=tuple(name for name in _FEEDBACK if name in feedback and name != unused),
        abs_send_time_id=0 if transport_sequence_id else extensions.get(ABS_SEND_TIME_URI, 0),
        playout_delay_id=extensions.get(PLAYOUT_DELAY_URI, 0),
        transport_sequence_id=transport_sequence_id,
        protection_type=protection if transport_sequence_id else None,
    )


def _usable_payload_type(text: str) -> bool:
    """Payload types 64 to 95 would be taken for RTCP (RFC 5761)."""
    return text.isascii() and text.isdecimal() and len(text) <= 3 and (int(text) <= 63 or 96 <= int(text) <= 127)


def _data_parameters(section: _Parsed) -> tuple[int, int]:
    port = _number(section.first("sctp-port") or str(SCTP_PORT), 1, 65535, "SCTP port")
    text = section.first("max-message-size") or str(DEFAULT_MAX_MESSAGE_BYTES)
    return port, _number(text, 0, 1 << 32, "largest message")


def _is_data(section: _Parsed) -> bool:
    return (
        section.kind == "application"
        and section.protocol in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP")
        and section.formats == "webrtc-datachannel"
    )


def parse_offer(text: str) -> Offer:
    """A device's offer from untrusted text.

    Raises :class:`FarframeError`: VideoCodecNotAvailable when a video is offered without H.264 that we can send,
    HandshakeFailed for everything else that cannot be answered.
    """
    session, sections = _split(text)
    bundle = next((value.split()[1:] for value in session.all("group") if value.split()[:1] == ["BUNDLE"]), [])
    videos, data = [], None
    mids = set()
    for section in sections:
        mid = section.first("mid") or ""
        if not _MID.fullmatch(mid) or mid in mids:
            raise _handshake_error("The description's media sections have no distinct mid.")
        mids.add(mid)
        receives = not (section.has("sendonly") or section.has("inactive"))
        if section.kind == "video" and receives and section.has("rtcp-mux") and mid in bundle:
            videos.append(section)
        elif data is None and _is_data(section) and mid in bundle:
            data = section
    if not videos:
        raise _handshake_error("The offer holds no video to receive in a bundle with rtcp-mux.")
    if data is None:
        raise _handshake_error("The offer holds no data channels in its bundle.")
    codec, video = None, videos[0]
    for video in videos:
        codec = _choose_codec(video)
        if codec is not None:
            break
    if codec is None:
        raise FarframeError(
            Result.VIDEO_CODEC_NOT_AVAILABLE,
            "The offer holds no H.264 with packetization-mode=1 in a baseline, main or high profile.",
            next_step="Use a device or browser that decodes H.264, and offer it.",
        )
    sctp_port, max_message_bytes = _data_parameters(data)
    data_mid, video_mid = data.first("mid") or "", video.first("mid") or ""
    first = min((video, data), key=lambda section: bundle.index(section.first("mid") or ""))
    return Offer(
        sections=tuple(Section(s.kind, s.protocol, s.formats, s.first("mid") or "") for s in sections),
        video_mid=video_mid,
        data_mid=data_mid,
        transport=_transport(session, first),
        codec=codec,
        candidates=_candidates(first),
        sctp_port=sctp_port,
        max_message_bytes=max_message_bytes,
    )


def answer_setup(offered: str) -> str:
    """The DTLS role of the answerer: it begins the handshake where it may, which saves half a round trip."""
    return "passive" if offered == "active" else "active"


def _transport_lines(transport: TransportParameters, candidates: tuple[LocalCandidate, ...]) -> list[str]:
    return [
        *(f"a=candidate:{candidate}" for candidate in candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{transport.username}",
        f"a=ice-pwd:{transport.password}",
        *(f"a=fingerprint:{algorithm} {value}" for algorithm, value in transport.fingerprints),
        f"a=setup:{transport.setup}",
    ]


def _connection_line(candidates: tuple[LocalCandidate, ...]) -> str:
    if not candidates:
        return "c=IN IP4 0.0.0.0"
    host = candidates[0].host
    return f"c=IN IP{ipaddress.ip_address(host).version} {host}"


def _codec_lines(codec: VideoCodec) -> list[str]:
    lines = [f"a=rtpmap:{codec.payload_type} H264/{VIDEO_CLOCK_RATE_HZ}"]
    lines += [f"a=rtcp-fb:{codec.payload_type} {name}" for name in codec.feedback]
    lines.append(f"a=fmtp:{codec.payload_type} {codec.parameters}")
    if codec.retransmission_type is not None:
        lines.append(f"a=rtpmap:{codec.retransmission_type} rtx/{VIDEO_CLOCK_RATE_HZ}")
        lines.append(f"a=fmtp:{codec.retransmission_type} apt={codec.payload_type}")
    if codec.protection_type is not None:
        lines.append(f"a=rtpmap:{codec.protection_type} flexfec-03/{VIDEO_CLOCK_RATE_HZ}")
        lines.append(f"a=rtcp-fb:{codec.protection_type} transport-cc")
        lines.append(f"a=fmtp:{codec.protection_type} repair-window={REPAIR_WINDOW_MICROSECONDS}")
    if codec.abs_send_time_id:
        lines.append(f"a=extmap:{codec.abs_send_time_id} {ABS_SEND_TIME_URI}")
    if codec.transport_sequence_id:
        lines.append(f"a=extmap:{codec.transport_sequence_id} {TRANSPORT_SEQUENCE_URI}")
    if codec.playout_delay_id:
        lines.append(f"a=extmap:{codec.playout_delay_id} {PLAYOUT_DELAY_URI}")
    return lines


def _codec_formats(codec: VideoCodec) -> str:
    types = (codec.payload_type, codec.retransmission_type, codec.protection_type)
    return " ".join(str(payload_type) for payload_type in types if payload_type is not None)


def _session_lines(bundle: tuple[str, ...], session_id: int) -> list[str]:
    return [
        "v=0",
        f"o=- {session_id} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(bundle)}",
        "a=msid-semantic: WMS farframe",
    ]


def build_answer(
    offer: Offer,
    transport: TransportParameters,
    candidates: tuple[LocalCandidate, ...],
    *,
    video_ssrc: int,
    retransmission_ssrc: int,
    protection_ssrc: int,
    session_id: int,
    max_message_bytes: int,
) -> str:
    """The answer to ``offer``: one H.264 video that we send, the data channels, everything else declined."""
    bundle = tuple(s.mid for s in offer.sections if s.mid in (offer.video_mid, offer.data_mid))
    lines = _session_lines(bundle, session_id)
    port = candidates[0].port if candidates else 9
    codec = offer.codec
    for section in offer.sections:
        if section.mid == offer.video_mid:
            lines += [f"m=video {port} {section.protocol} {_codec_formats(codec)}", _connection_line(candidates)]
            lines += [f"a=mid:{section.mid}", "a=sendonly", "a=rtcp-mux", "a=rtcp-rsize"]
            lines += _codec_lines(codec)
            lines.append("a=msid:farframe video")
            ssrcs = [video_ssrc]
            for group, ssrc, agreed in (
                ("FID", retransmission_ssrc, codec.retransmission_type),
                ("FEC-FR", protection_ssrc, codec.protection_type),
            ):
                if agreed is not None:
                    ssrcs.append(ssrc)
                    lines.append(f"a=ssrc-group:{group} {video_ssrc} {ssrc}")
            lines += [f"a=ssrc:{ssrc} cname:farframe" for ssrc in ssrcs]
            lines += _transport_lines(transport, candidates)
        elif section.mid == offer.data_mid:
            lines += [f"m=application {port} {section.protocol} {section.formats}", _connection_line(candidates)]
            lines += [f"a=mid:{section.mid}", f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{max_message_bytes}"]
            lines += _transport_lines(transport, candidates)
        else:
            lines += [f"m={section.kind} 0 {section.protocol} {section.formats}", "c=IN IP4 0.0.0.0"]
            lines += [f"a=mid:{section.mid}", "a=inactive"]
    return "\r\n".join(lines) + "\r\n"


OFFERED_CODEC = VideoCodec(
    payload_type=102,
    retransmission_type=103,
    profile="constrained baseline",
    parameters="level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    feedback=_FEEDBACK,
    abs_send_time_id=3,
    transport_sequence_id=5,
    protection_type=104,
)
"""What the Python receiver offers. It keeps no playout buffer, so it has no use for playout-delay."""


def build_offer(
    transport: TransportParameters,
    candidates: tuple[LocalCandidate, ...],
    *,
    session_id: int,
    max_message_bytes: int,
) -> str:
    """An offer to receive one H.264 video, with data channels."""
    lines = _session_lines(("0", "1"), session_id)
    port = candidates[0].port if candidates else 9
    lines += [f"m=video {port} UDP/TLS/RTP/SAVPF {_codec_formats(OFFERED_CODEC)}", _connection_line(candidates)]
    lines += ["a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"]
    lines += _codec_lines(OFFERED_CODEC)
    lines += _transport_lines(transport, candidates)
    lines += [f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel", _connection_line(candidates)]
    lines += ["a=mid:1", f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{max_message_bytes}"]
    lines += _transport_lines(transport, candidates)
    return "\r\n".join(lines) + "\r\n"


def parse_answer(text: str) -> Answer:
    """A server's answer to :func:`build_offer`, from untrusted text. Raises :class:`FarframeError`."""
    session, sections = _split(text)
    video = next((section for section in sections if section.kind == "video" and section.port), None)
    data = next((section for section in sections if _is_data(section) and section.port), None)
    if video is None or data is None:
        raise _handshake_error("The answer declines the video or the data channels.")
    codec = _choose_codec(video)
    if codec is None:
        raise FarframeError(Result.VIDEO_CODEC_NOT_AVAILABLE, "The answer holds no H.264.")
    transport = _transport(session, video)
    if transport.setup == "actpass":
        raise _handshake_error("The answer leaves the DTLS role open.")
    ssrc, groups = _sources(video)
    sctp_port, max_message_bytes = _data_parameters(data)
    return Answer(
        transport,
        codec,
        _candidates(video),
        ssrc,
        groups.get("FID") if codec.retransmission_type is not None else None,
        groups.get("FEC-FR") if codec.protection_type is not None else None,
        sctp_port,
        max_message_bytes,
    )


def _sources(video: _Parsed) -> tuple[int, dict[str, int]]:
    """The SSRC of an answer's video, and by the names of their groups those that belong to it."""
    groups: dict[str, int] = {}
    first: int | None = None
    for value in video.all("ssrc-group")[:MAX_CODECS]:
        words = value.split()
        if words[:1] not in (["FID"], ["FEC-FR"]) or len(words) != 3:
            continue
        of, ssrc = (_number(word, 0, 0xFFFFFFFF, "SSRC") for word in words[1:])
        if first is None or of == first:
            first = of
            groups.setdefault(words[0], ssrc)
    if first is None:
        alone = video.first("ssrc")
        if alone is None:
            raise _handshake_error("The answer names no SSRC for its video.")
        first = _number(alone.split(" ")[0], 0, 0xFFFFFFFF, "SSRC")
    return first, groups
