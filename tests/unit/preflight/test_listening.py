"""Whether others than this machine can read what is served."""

from __future__ import annotations

import pytest

from crossfade.findings import Severity
from crossfade.preflight.listening import listening


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9810", "[::1]:9810", "localhost:1", "127.8.8.8:1"])
def test_here_alone(listen: str) -> None:
    assert list(listening(listen)) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:9810", "[::]:9810", "10.0.0.5:80", "crossfade.internal:9810"])
def test_beyond_this_machine(listen: str) -> None:
    (told,) = listening(listen)
    assert told.finding.name == "http_exposed"
    assert told.finding.severity is Severity.WARNING
    assert listen in told.finding.subject
    assert "without a password" in told.finding.sentence
