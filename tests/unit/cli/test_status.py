"""`crossfade status`: who is asked, what is shown, how it exits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from rich.console import Console

import crossfade
from crossfade.cli import fetch as asking
from crossfade.cli import status as command
from crossfade.cli.view import render, size
from crossfade.events import DiskMeasured, LagMeasured, LeaderChanged, Note, Paused, PauseReason, Phase, PhaseChanged
from crossfade.settings import Settings
from crossfade.telemetry import offline
from crossfade.telemetry.document import StatusDocument
from crossfade.telemetry.status import StatusBook
from tests.unit.telemetry.facts import TABLES, applied, copied, failed, received, sampled


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "crossfade.toml"
    path.write_text('name = "shop"\n[source]\ndsn = "host=nowhere"\n[target]\ndsn = "host=nowhere"\n')
    return path


def _book(*, leads: bool = True) -> StatusBook:
    book = StatusBook("shop", TABLES, slot="crossfade")
    book.observe(LeaderChanged(leads))
    book.observe(PhaseChanged(Phase.STREAMING))
    book.observe(LagMeasured(1.5, 2048))
    return book


def _answers(monkeypatch: pytest.MonkeyPatch, document: StatusDocument | None) -> None:
    def get(host: str, port: int, path: str, *, seconds: float) -> tuple[int, bytes]:
        if document is None:
            raise ConnectionRefusedError
        return 200, orjson.dumps(document)

    monkeypatch.setattr(asking, "get", get)


def _databases(monkeypatch: pytest.MonkeyPatch, document: StatusDocument) -> None:
    async def read_status(*_: object, **__: object) -> StatusDocument:
        return document

    monkeypatch.setattr(offline, "read_status", read_status)


def _offline() -> StatusDocument:
    document = _book().document()
    document["daemon"], document["leader"] = None, False
    return document


def test_the_leader_on_this_host_is_asked(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answers(monkeypatch, _book().document())
    assert command.status(config, watch=False, json_output=True, fail_if_lag_above=None) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["lag_seconds"] == 1.5
    assert document["daemon"] is not None


def test_where_a_daemon_answers_no_driver_is_loaded() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", "import sys, crossfade.cli.status; print('psycopg' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(Path(crossfade.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == "False"


def test_without_a_daemon_the_databases_are_asked(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answers(monkeypatch, None)
    _databases(monkeypatch, _offline())
    assert command.status(config, watch=False, json_output=True, fail_if_lag_above=None) == 0
    assert json.loads(capsys.readouterr().out)["daemon"] is None


def test_another_workflow_s_daemon_on_our_port_is_not_believed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = _book().document()
    foreign["name"] = "billing"
    _answers(monkeypatch, foreign)
    _databases(monkeypatch, _offline())
    assert asking.fetch(_settings(config))["daemon"] is None


def test_a_standby_knows_itself_and_the_databases_know_the_rest(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standby = StatusBook("shop")
    standby.observe(LeaderChanged(False))
    _answers(monkeypatch, standby.document())
    _databases(monkeypatch, _offline())
    document = asking.fetch(_settings(config))
    assert document["daemon"] is not None
    assert document["leader"] is False
    assert document["phase"] == "streaming"
    assert "standby" in document["next_steps"][-1]


@pytest.mark.parametrize(("lag", "limit", "code"), [(1.5, 5.0, 0), (6.0, 5.0, 3), (5.0, 5.0, 0), (None, 5.0, 3)])
def test_fail_if_lag_above(
    config: Path, monkeypatch: pytest.MonkeyPatch, lag: float | None, limit: float, code: int
) -> None:
    document = _book().document()
    document["lag_seconds"] = lag
    _answers(monkeypatch, document)
    assert command.status(config, watch=False, json_output=True, fail_if_lag_above=limit) == code


def test_a_database_that_does_not_answer_exits_5_and_still_shows_the_rest(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = _book()
    book.observe(failed("source", sqlstate=""))
    partial = book.document()
    partial["daemon"] = None
    _answers(monkeypatch, None)
    _databases(monkeypatch, partial)
    assert command.status(config, watch=False, json_output=False, fail_if_lag_above=None) == 5
    assert "shop" in capsys.readouterr().out


def _drawn(document: StatusDocument) -> str:
    out = io.StringIO()
    Console(file=out, width=140, no_color=True).print(render(document))
    return out.getvalue()


def test_the_page_tells_what_matters() -> None:
    book = _book()
    for event in (
        received(0x3000),
        applied(0x2000),
        sampled(wal_keep_limit=1 << 30),
        copied("running", 250),
        Paused(PauseReason.OPERATOR),
        failed(),
        Note("lock_yielded", "Copy of public.users gave way.", "warning", alert=True),
        DiskMeasured("target", 1 << 30, 4 << 30),
    ):
        book.observe(event)
    page = _drawn(book.document())
    for words in (
        "shop",
        "streaming",
        "paused: operator",
        "1.5 s, 2.0 KiB",
        "received 0/3000",
        "durable 0/2000",
        "crossfade active",
        "1.0 GiB allowed",
        "public.users",
        "app.accounts",
        "running",
        "A unique key was violated",
        "gave way",
        "crossfade resume",
        "of the target: 1.0 GiB of 4.0 GiB free (25%)",
    ):
        assert words in page, words


def test_a_page_without_anything_known() -> None:
    document = StatusBook("shop").document()
    document["daemon"], document["phase"], document["phase_since"] = None, None, None
    page = _drawn(document)
    assert "not started" in page
    assert "no daemon here" in page
    assert "None" not in page


def test_names_that_look_like_markup_are_drawn_as_they_are() -> None:
    book = StatusBook("shop")
    book.observe(Note("odd", "Table public.[bold]x[/bold] is odd.", "warning", alert=True))
    assert "[bold]x[/bold]" in _drawn(book.document())


def test_sizes() -> None:
    assert [size(n) for n in (None, 0, 1023, 1536, 1 << 40, 1 << 50)] == [
        "-",
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 TiB",
        "1024.0 TiB",
    ]


def _settings(config: Path) -> Settings:
    from crossfade.settings import load_settings

    return load_settings(config)
