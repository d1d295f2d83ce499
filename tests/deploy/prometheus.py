"""Prometheus and Alertmanager, with their checkers: on this machine, or from their Debian packages.

$PROMETHEUS, $PROMTOOL, $ALERTMANAGER and $AMTOOL may name them. Refuses to know what they are asked.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.tools import debian

_TEMPLATES: Final = Path("/usr/share/prometheus/alertmanager/default.tmpl")


def prometheus() -> Path:
    """The server."""
    return debian("PROMETHEUS", "prometheus", ["prometheus"], "usr/bin/prometheus").path


def promtool() -> Path:
    """Its checker."""
    return debian("PROMTOOL", "promtool", ["prometheus"], "usr/bin/promtool").path


def amtool() -> Path:
    """Alertmanager's checker."""
    return debian("AMTOOL", "amtool", ["prometheus-alertmanager"], "usr/bin/amtool").path


def alertmanager() -> list[str]:
    """The server that tells people, as the beginning of a command.

    Debian's looks for its templates below /usr/share and nowhere else. Where it was unpacked and not installed, it is
    started in a mount namespace of its own, in which the unpacked /usr/share is the real one.
    """
    packages = ["prometheus-alertmanager"]
    binary = debian("ALERTMANAGER", packages[0], packages, f"usr/bin/{packages[0]}").path
    share = binary.resolve().parents[1] / "share"
    if _TEMPLATES.exists() or not (share / _TEMPLATES.relative_to("/usr/share")).exists():
        return [str(binary)]
    command = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
    command += ["/bin/sh", "-c", 'mount --bind "$0" /usr/share && exec "$@"', str(share)]
    try:
        tried = subprocess.run([*command, "/bin/true"], capture_output=True, text=True, check=False)
        refused = tried.stderr if tried.returncode else ""
    except OSError as error:
        refused = str(error)
    if refused:
        pytest.skip(f"Debian's Alertmanager is not installed here, and may not be given a /usr/share: {refused}")
    return [*command, str(binary)]
