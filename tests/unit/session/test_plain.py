"""What is known of a socket before anything is read from it."""

from __future__ import annotations

import socket

import pytest

from crossfade.session.plain import _is_local


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_loopback_is_this_host(family: socket.AddressFamily, address: str) -> None:
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        with socket.create_connection(server.getsockname()[:2]) as ours:
            assert _is_local(ours)


def test_a_unix_socket_is_too_and_any_other_address_is_not() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert _is_local(ours)

    class Far(socket.socket):
        def getpeername(self) -> tuple[str, int]:
            return "192.0.2.7", 5432

    with Far(socket.AF_INET) as far:
        assert not _is_local(far)
