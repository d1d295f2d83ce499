"""Telling systemd how we are: READY, STATUS, WATCHDOG and STOPPING, by one datagram each.

Refuses to know why. The invariant: no trouble with the service manager ever disturbs the work; a datagram that cannot
be sent is dropped, and the watchdog will notice.

systemd: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to $NOTIFY_SOCKET, or to nobody when there is none.

    Build it with `from_environment`. `watchdog_seconds` is how often `watchdog` should be called: half of what
    systemd waits before it kills us; None: nobody watches.
    """

    def __init__(self, address: str, watchdog_seconds: float | None = None) -> None:
        # A leading @ stands for the NUL byte of an abstract socket's name.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, pid: int | None = None) -> Notifier:
        """Read $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID; the watchdog is ours only when the pid is."""
        usec = environment.get("WATCHDOG_USEC", "")
        watched = environment.get("WATCHDOG_PID", "")
        ours = str(os.getpid() if pid is None else pid)
        seconds = int(usec) / 2_000_000 if usec.isdigit() and int(usec) > 0 and watched in ("", ours) else None
        return cls(environment.get("NOTIFY_SOCKET", ""), seconds)

    def ready(self, status: str = "") -> bool:
        """The supervisor runs. Returns whether somebody was told."""
        return self._send("READY=1", status)

    def status(self, status: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", status)

    def watchdog(self) -> bool:
        """The event loop is alive."""
        return self._send("WATCHDOG=1", "")

    def stopping(self, status: str = "") -> bool:
        """Draining has begun; what systemd waits from here on is its stop timeout."""
        return self._send("STOPPING=1", status)

    def _send(self, state: str, status: str) -> bool:
        if not self._address:
            return False
        lines = [state] if state else []
        if status:
            lines.append(f"STATUS={' '.join(status.split())}")  # a line break would begin another assignment
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True
