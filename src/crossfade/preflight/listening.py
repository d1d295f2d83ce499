"""Whether more than this machine can read what the daemon serves over HTTP.

Refuses to forbid it: containers and probes need it, and nothing can be changed there. The invariant: whoever listens
beyond the loopback address has been told what everybody can read then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from crossfade.findings import Kind, Severity
from crossfade.preflight.remarks import Remark, Side, remark


def listening(listen: str) -> Iterator[Remark]:
    """`listen` is `http.listen`."""
    if is_exposed(listen):
        yield remark(
            Side.BOTH,
            Severity.WARNING,
            "http_exposed",
            f"http.listen = {listen}",
            "Whoever reaches this address can read the status, the metrics and the log without a password: names of"
            " hosts, tables and columns, how many rows, errors. Never a row, and nothing can be changed there.",
            remedy="Let a firewall or network policy admit only who scrapes and looks, or listen on 127.0.0.1:9810 and"
            " put a proxy that asks for a password in front.",
            kind=Kind.CONFIGURATION,
        )


def is_exposed(listen: str) -> bool:
    """Whether the address is one that other machines may reach."""
    if not listen:
        return False
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
