"""Logs an on-call person can read: one line per fact, JSON for machines, coloured text on a terminal.

Sets up structlog and the standard library's logging to end in the same stream (stderr: stdout is for data), and turns
events into lines. Refuses to know why things happen. The invariants: no secret and no row value is ever in a line
(events carry none, promise 6), times are UTC, and a thing that repeats does not flood: the first is told at once, the
rest are counted and told once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final, Protocol, TextIO

import orjson
import structlog

from crossfade.events import (
    Acknowledged,
    Applied,
    Configured,
    Connected,
    CopyState,
    DiskMeasured,
    Event,
    Failed,
    LagMeasured,
    LeaderChanged,
    Note,
    Notified,
    PartCopied,
    Paused,
    Phase,
    PhaseChanged,
    PipeLevel,
    Received,
    Recovered,
    Reloaded,
    SourceSampled,
    TargetSampled,
)
from crossfade.faults import Fault
from crossfade.lsn import NOWHERE

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_POSITIONS_EVERY: Final = 30.0  # seconds, while streaming
_COPY_EVERY: Final = 30.0  # seconds, per table being copied
_REPEAT_EVERY: Final = 60.0  # seconds between two lines that say the same
_MOST_RECENT: Final = 1000  # lines kept in memory
_LONGEST_LINE: Final = 4096  # characters of one of them
_MOST_REPEATS: Final = 512  # different lines remembered

EventDict = MutableMapping[str, object]


class Logger(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **fields: object) -> object: ...

    def info(self, event: str, **fields: object) -> object: ...

    def warning(self, event: str, **fields: object) -> object: ...

    def error(self, event: str, **fields: object) -> object: ...

    def isEnabledFor(self, level: int) -> bool: ...  # noqa: N802


class RecentLines(logging.Handler):
    """The newest lines as JSON, for who looks at the page or makes a support bundle; nothing that was not logged."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_MOST_RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self._lines.append(self.format(record)[:_LONGEST_LINE])

    def text(self) -> str:
        """Oldest first, a line each."""
        self.acquire()  # threads log as well
        try:
            return "".join(f"{line}\n" for line in self._lines)
        finally:
            self.release()


_RECENT: Final = RecentLines()


def recent_lines() -> str:
    """What this process has logged last, as JSON lines."""
    return _RECENT.text()


def configure(level: str = "info", format: str = "auto", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Send structlog and the standard library's logging to `stream` (stderr when None).

    `level` is debug, info, warning or error; `format` is json, console or auto (console on a terminal). May be called
    again, to change the level.
    """
    out = stream if stream is not None else sys.stderr
    is_console = format == "console" or (format == "auto" and out.isatty())
    threshold = _LEVELS.get(level, logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor
    if is_console:
        colors = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        last = structlog.dev.ConsoleRenderer(colors=colors)
    else:
        last = structlog.processors.JSONRenderer(serializer=_to_json)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _exception_without_values,
            last,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    _RECENT.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=formatter.foreign_pre_chain,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception_without_values,
                structlog.processors.JSONRenderer(serializer=_to_json),
            ],
        )
    )
    root.addHandler(_RECENT)
    root.setLevel(threshold)
    # Libraries speak up when something is wrong; psycopg's warnings may repeat a server's text, which may hold values.
    for library in ("asyncio", "aiohttp", "concurrent"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def logger(workflow: str) -> Logger:
    """A logger whose lines carry the workflow's name."""
    bound: Logger = structlog.get_logger("crossfade").bind(workflow=workflow)
    return bound


def stray_error(_loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
    """The event loop's exception handler: an error in a task nobody waited for.

    asyncio's own would write the task's repr, and with it the exception's text, which may quote a row (K6).
    """
    error = context.get("exception")
    structlog.get_logger("crossfade").error(
        str(context.get("message", "an error outside any task")),
        exc_info=error if isinstance(error, BaseException) else None,
    )


def _to_json(fields: object, **_: object) -> str:
    return orjson.dumps(fields, default=str).decode()


def _exception_without_values(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """Tell where an exception came from without its text: a server's message may quote a row (promise 6, K6).

    Our own faults are built from names only and keep their text.
    """
    given = fields.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) and len(given) == 3 else given
    if isinstance(error, BaseException):
        text = str(error) if isinstance(error, Fault) else ""
        fields["exception"] = f"{type(error).__name__}: {text}" if text else type(error).__name__
        fields["traceback"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
    return fields


class LogListener:
    """Turns events into lines, one per fact a person would want to know.

    `monotonic` (seconds) paces what repeats. Per-batch events make no lines; while streaming, one line every 30 s
    tells positions, lag and throughput.
    """

    def __init__(self, log: Logger, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._monotonic = monotonic
        self._phase: Phase | None = None
        self._told: dict[str, tuple[float, int]] = {}
        self._copy_states: dict[str, tuple[str, float]] = {}
        self._positions_due = monotonic() + _POSITIONS_EVERY
        self._received = self._durable = self._acknowledged = NOWHERE
        self._transactions = self._changes = 0
        self._lag = LagMeasured(None, None)
        self._wal_status = ""
        self._alerts: set[str] = set()

    def observe(self, event: Event) -> None:
        """Say it, if it is worth a line. Never raises, never waits."""
        match event:
            case PhaseChanged():
                if event.phase is not self._phase:
                    self._phase = event.phase
                    self._log.info(f"phase is {event.phase.value}", phase=event.phase.value)
            case Connected():
                how = "connected again" if event.is_reconnect else "connected"
                self._log.info(
                    f"{how} to the {event.endpoint}", endpoint=event.endpoint, server=_version(event.version)
                )
            case Failed():
                self._failed(event)
            case Recovered():
                self._told.clear()
                self._log.info("working again after the error")
            case Paused():
                if event.reason is None:
                    self._log.info("not paused any more")
                else:
                    self._log.warning(f"paused: {event.reason.value}", reason=event.reason.value)
            case LeaderChanged():
                if not event.tries_again:
                    self._log.info(
                        "leading" if event.is_leader else "standby: another instance leads", leader=event.is_leader
                    )
            case CopyState():
                self._copied(event)
            case Note():
                self._noted(event)
            case SourceSampled():
                self._sampled(event)
            case Received():
                self._received = event.position
            case Applied():
                self._durable = event.end_lsn
                self._transactions += event.transactions
                self._changes += sum(event.changes.values())
                self._positions()
                self._applied(event)
            case Acknowledged():
                self._acknowledged = event.position
                self._durable = max(self._durable, event.position)
            case LagMeasured():
                self._lag = event
                self._positions()
            case Reloaded():
                if event.is_taken:
                    self._log.info("settings were read again")
            case PipeLevel() | PartCopied() | TargetSampled() | DiskMeasured() | Notified() | Configured():
                pass

    def _failed(self, event: Failed) -> None:
        ending = "the process ends" if event.retry_in is None else f"trying again in {event.retry_in:.1f} s"
        say = self._log.warning if event.is_transient and event.retry_in is not None else self._log.error
        self._rarely(
            f"{event.component} {event.sqlstate} {event.text}",
            say,
            f"{event.text} ({ending})",
            component=event.component,
            sqlstate=event.sqlstate or None,
            retry_in_seconds=None if event.retry_in is None else round(event.retry_in, 3),
        )

    def _noted(self, event: Note) -> None:
        if event.cleared:
            if event.name not in self._alerts:
                return  # it was never told, so nobody waits for its end
            self._alerts.discard(event.name)
            self._log.info(f"over: {event.text}" if event.text else f"over: {event.name}", note=event.name)
            return
        if event.alert:
            self._alerts.add(event.name)
        say = {"error": self._log.error, "warning": self._log.warning}.get(event.level, self._log.info)
        self._rarely(f"note {event.name} {event.text}", say, event.text, note=event.name)

    def _copied(self, event: CopyState) -> None:
        table, now = str(event.source), self._monotonic()
        state, due = self._copy_states.get(table, ("", 0.0))
        changed = state != event.state
        if not changed and (event.state != "running" or now < due):
            return
        self._copy_states[table] = (event.state, now + _COPY_EVERY)
        if event.state == "pending" and state == "":
            return  # nothing happened yet
        self._log.info(
            f"copy of {table} is {event.state}",
            table=table,
            target=str(event.target),
            rows=event.rows,
            bytes=event.bytes,
            rows_estimated=event.rows_estimated,
        )

    def _sampled(self, event: SourceSampled) -> None:
        status = event.wal_status if event.slot_exists else ""
        if status != self._wal_status:
            before, self._wal_status = self._wal_status, status
            if status in ("unreserved", "lost"):
                self._log.error(
                    f"the slot's wal_status is {status}", wal_status=status, retained_bytes=event.retained_bytes
                )
            elif before:
                self._log.info(
                    f"the slot's wal_status is {status or 'gone'}",
                    wal_status=status or None,
                    retained_bytes=event.retained_bytes,
                )

    def _positions(self) -> None:
        now = self._monotonic()
        if now < self._positions_due or self._phase not in (Phase.STREAMING, Phase.CATCHUP):
            return
        self._log.info(
            "positions",
            received=str(self._received),
            durable=str(self._durable),
            acknowledged=str(self._acknowledged),
            lag_seconds=None if self._lag.seconds is None else round(self._lag.seconds, 1),
            lag_bytes=self._lag.bytes,
            transactions=self._transactions,
            changes=self._changes,
        )
        self._positions_due = now + _POSITIONS_EVERY
        self._transactions = self._changes = 0

    def _applied(self, event: Applied) -> None:
        if not self._log.isEnabledFor(logging.DEBUG):
            return  # hundreds a second may come
        self._log.debug(
            "batch",
            level_of_apply=event.by_level,
            reason=event.reason or None,
            transactions=event.transactions,
            changes=sum(event.changes.values()),
            tables=len({table for table, _ in event.changes}),
            conflicts=sum(event.conflicts.values()),
            seconds=round(event.seconds, 4),
            end_lsn=str(event.end_lsn),
        )

    def _rarely(self, key: str, say: Callable[..., object], text: str, **fields: object) -> None:
        """Say it at once the first time, then once a minute with how often it happened in between."""
        now = self._monotonic()
        told = self._told.get(key)
        if told is not None and now - told[0] < _REPEAT_EVERY:
            self._told[key] = (told[0], told[1] + 1)
            return
        if told is not None and told[1]:
            fields["repeated"] = told[1]
        if len(self._told) >= _MOST_REPEATS:
            self._told.clear()
        self._told[key] = (now, 0)
        say(text, **fields)


def _version(number: int) -> str:
    """15.18 of 150018."""
    return f"{number // 10_000}.{number % 10_000}"
