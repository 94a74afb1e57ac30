"""What is said when an address cannot be listened on: the reason, and what helps against this one."""

from __future__ import annotations

import errno
import socket

import pytest

from farframe.service.listeners import ListenError, bind


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"port {port}: .* choose another port with --port"):
            bind("127.0.0.1", port, "--port")


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(ListenError, match="Name an address of this machine") as caught:
        bind(host, 0, "--port")
    assert "End the program" not in str(caught.value)


def test_a_port_that_needs_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(ListenError, match=r"below 1024 .* --http-port"):
        bind("127.0.0.1", 80, "--http-port")
