"""Which addresses are connected to."""

from __future__ import annotations

import ipaddress

import httpcore
import pytest

from farframe.protocol.errors import FarframeError
from farframe.storage.network import CheckedBackend, RefusedAddressError, is_listed, is_public, parse_networks

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "2a00:1450::5efe:127.0.0.1",
    "2a00:1450::200:5efe:a00:1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "20.60.0.1", "172.32.0.1", "100.128.0.1", "2a00:1450:4001::200e", "2606:4700::1111"]


@pytest.mark.parametrize("address", REFUSED)
def test_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(ipaddress.ip_address(address))


def test_listed():
    networks = parse_networks(["10.1.0.0/16", "fd00::/8"])
    assert is_listed(ipaddress.ip_address("10.1.2.3"), networks)
    assert is_listed(ipaddress.ip_address("::ffff:10.1.2.3"), networks)
    assert is_listed(ipaddress.ip_address("fd00::1"), networks)
    assert not is_listed(ipaddress.ip_address("10.2.0.1"), networks)


def test_a_malformed_list_is_the_operators_mistake():
    with pytest.raises(FarframeError):
        parse_networks(["10.0.0.0/99"])


class RecordingBackend(CheckedBackend):
    """Notes where connections would go instead of making them."""

    def __init__(self, answers, networks=(), **options):
        self.asked = []

        async def resolver(host, port):
            self.asked.append(host)
            return answers.pop(0)

        super().__init__(parse_networks(networks), resolver, **options)
        self.connected = []
        outer = self

        class Inner(httpcore.AsyncNetworkBackend):
            async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
                outer.connected.append(host)
                raise httpcore.ConnectError("not in a test")

        self._inner = Inner()


@pytest.mark.parametrize("address", [*REFUSED, "fe80::1%lo", "not an address"])
async def test_refused_addresses_are_not_connected_to(address):
    backend = RecordingBackend([[address]])
    with pytest.raises(RefusedAddressError):
        await backend.connect_tcp("innocent.example", 443)
    assert backend.connected == []


async def test_the_judged_address_is_connected_to_and_asked_for_once():
    backend = RecordingBackend([["8.8.8.8"], ["127.0.0.1"]])
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("rebinding.example", 443)
    assert backend.asked == ["rebinding.example"]
    assert backend.connected == ["8.8.8.8"]
    with pytest.raises(RefusedAddressError):
        await backend.connect_tcp("rebinding.example", 443)
    assert backend.connected == ["8.8.8.8"]


async def test_of_mixed_answers_only_the_public_ones_are_used():
    backend = RecordingBackend([["10.0.0.1", "8.8.8.8", "::1", "1.1.1.1"]])
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("mixed.example", 443)
    assert backend.connected == ["8.8.8.8", "1.1.1.1"]


async def test_only_listed():
    backend = RecordingBackend([["8.8.8.8"], ["10.1.0.5"]], networks=["10.1.0.0/16"], only_listed=True)
    with pytest.raises(RefusedAddressError):
        await backend.connect_tcp("public.example", 80)
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("inside.example", 80)
    assert backend.connected == ["10.1.0.5"]


async def test_no_unix_sockets():
    with pytest.raises(RefusedAddressError):
        await RecordingBackend([]).connect_unix_socket("/run/docker.sock")


async def test_a_name_that_does_not_resolve():
    async def resolver(host, port):
        raise OSError("no such name")

    with pytest.raises(httpcore.ConnectError):
        await CheckedBackend((), resolver).connect_tcp("nowhere.example", 443)
