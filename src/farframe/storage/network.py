"""Connections to checked addresses only: what keeps a device's URL from reaching into the operator's network.

The name is resolved here, each address is judged, and the connection is made to exactly the address that was judged:
a name that resolves differently the second time (DNS rebinding) gains nothing. TLS still verifies the URL's host name.
It happens in the network backend, below HTTP, so every connection passes here, redirects included.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore

from farframe.protocol.errors import FarframeError, Result

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to addresses as text, in the order in which to try them. Raises ``OSError``."""

_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' shared space
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server, in public space
        "169.254.0.0/16",  # link-local, and the clouds' metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
"""Special-purpose addresses (IANA registries, RFC 6890), and IPv6 forms that carry an IPv4 address."""


class RefusedAddressError(Exception):
    """A name leads nowhere but to addresses that must not be connected to."""


async def system_resolver(host: str, port: int) -> list[str]:
    """The operating system's answer."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def parse_networks(networks: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation. Raises ``FAIL`` for text that is none: the operator's configuration is wrong."""
    try:
        return tuple(ipaddress.ip_network(each, strict=False) for each in networks)
    except ValueError:
        raise FarframeError(
            Result.FAIL,
            "The server's list of allowed networks is malformed.",
            next_step="Ask the operator to write it like 10.1.0.0/16.",
        ) from None


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach that address."""
    if any(address.version == network.version and address in network for network in _NEVER_PUBLIC):
        return False
    # Interface identifiers of ISATAP carry an IPv4 address under any prefix.
    if isinstance(address, ipaddress.IPv6Address) and (int(address) >> 32) & 0xFCFFFFFF == 0x00005EFE:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_listed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; an IPv4-mapped one also by its IPv4 address."""
    forms = [address]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        forms.append(address.ipv4_mapped)
    return any(form.version == network.version and form in network for form in forms for network in networks)


def is_usable(answer: str, allowed_networks: Sequence[Network], *, only_listed: bool) -> bool:
    """Whether a connection may be made to that address, as text: the one rule for all transports."""
    try:
        address = ipaddress.ip_address(answer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return False
    return is_listed(address, allowed_networks) or (not only_listed and is_public(address))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses and to those in ``allowed_networks``; with ``only_listed`` to the latter only.

    Raises :class:`RefusedAddressError` where no address of a name may be used, httpcore's errors otherwise.
    """

    def __init__(
        self, allowed_networks: Sequence[Network], resolver: Resolver = system_resolver, *, only_listed: bool = False
    ) -> None:
        self._allowed_networks = tuple(allowed_networks)
        self._resolver = resolver
        self._only_listed = only_listed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge, connect to the first address that may be used and answers."""
        try:
            async with asyncio.timeout(timeout):
                answers = await self._resolver(host.strip("[]"), port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name could not be resolved") from None
        usable = [answer for answer in answers if self._may_use(answer)]
        if not usable:
            raise RefusedAddressError
        last: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for answer in usable:
            try:
                return await self._inner.connect_tcp(answer, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError("no address answered")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: a URL names no socket of this machine."""
        raise RefusedAddressError

    async def sleep(self, seconds: float) -> None:
        """As the protocol of backends wants it."""
        await asyncio.sleep(seconds)

    def _may_use(self, answer: str) -> bool:
        return is_usable(answer, self._allowed_networks, only_listed=self._only_listed)
