from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.cli.healthcheck import healthcheck, main, split


class _Livez(http.server.BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        assert self.path == "/livez"
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"supervisor: the supervisor has ended\n" if self.code != 200 else b"ok\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def daemon() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Livez) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    _Livez.code = 200


def _config(folder: Path, listen: str) -> Path:
    path = folder / "crossfade.toml"
    path.write_text(f'name = "shop"\n[http]\nlisten = "{listen}"\n')
    return path


def test_a_living_daemon(daemon: http.server.HTTPServer, tmp_path: Path) -> None:
    config = _config(tmp_path, f"127.0.0.1:{daemon.server_port}")
    assert healthcheck(config) == 0
    assert main(["--config", str(config)]) == 0


def test_listening_everywhere_is_asked_here(daemon: http.server.HTTPServer, tmp_path: Path) -> None:
    assert healthcheck(_config(tmp_path, f"0.0.0.0:{daemon.server_port}")) == 0


def test_a_proxy_in_the_environment_is_not_asked(
    daemon: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert healthcheck(_config(tmp_path, f"127.0.0.1:{daemon.server_port}")) == 0


def test_a_dying_daemon_says_why(
    daemon: http.server.HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _Livez.code = 503
    assert healthcheck(_config(tmp_path, f"127.0.0.1:{daemon.server_port}")) == 1
    assert "the supervisor has ended" in capsys.readouterr().err


def test_nobody_there(daemon: http.server.HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck(_config(tmp_path, "127.0.0.1:1")) == 1
    assert "no daemon answers at 127.0.0.1:1" in capsys.readouterr().err


def test_http_switched_off(tmp_path: Path) -> None:
    assert healthcheck(_config(tmp_path, "")) == 1


def test_the_environment_wins(daemon: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_HTTP__LISTEN", f"127.0.0.1:{daemon.server_port}")
    assert healthcheck(_config(tmp_path, "127.0.0.1:1")) == 0


def test_where_to_ask() -> None:
    assert split("[::1]:9810") == ("::1", 9810)
    assert split("[::]:9810") == ("::1", 9810)
    assert split("db.internal:80") == ("db.internal", 80)
    with pytest.raises(OSError):
        split("nonsense")
