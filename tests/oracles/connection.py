"""One connection that is opened again whenever a fault took it away.

Servers under these tests are killed on purpose, so losing a connection is not news; anything else is.
"""

from __future__ import annotations

import contextlib
from types import TracebackType

import psycopg

Session = psycopg.Connection[tuple[object, ...]]


class LostError(Exception):
    """The connection is gone, or cannot be had now; what was not committed did not happen, what was being may have."""


class Reconnecting:
    """`with connection.session() as c:` gives an open session or raises `LostError`; losing it inside does too."""

    def __init__(self, dsn: str, name: str, *, options: str = "") -> None:
        self._dsn = dsn
        self._name = name
        self._options = f"-c timezone=UTC -c statement_timeout=60s {options}".strip()
        self._session: Session | None = None
        self.times_opened = 0

    def session(self) -> _Use:
        return _Use(self)

    def acquire(self) -> Session:
        if self._session is None or self._session.closed or self._session.broken:
            try:
                self._session = psycopg.connect(
                    self._dsn,
                    application_name=self._name,
                    options=self._options,
                    connect_timeout=5,
                    autocommit=True,
                )
            except psycopg.OperationalError as error:
                raise LostError(str(error)) from error
            self._session.prepare_threshold = None
            self.times_opened += 1
        return self._session

    def drop(self) -> None:
        if self._session is not None:
            with contextlib.suppress(psycopg.Error):
                self._session.close()
            self._session = None


class _Use:
    def __init__(self, owner: Reconnecting) -> None:
        self._owner = owner

    def __enter__(self) -> Session:
        return self._owner.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
            error, psycopg.errors.QueryCanceled | psycopg.errors.DeadlockDetected | psycopg.errors.LockNotAvailable
        ):
            self._owner.drop()
            raise LostError(str(error)) from error
