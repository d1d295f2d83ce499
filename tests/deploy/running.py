"""`make stack` as a test starts it: a process of its own, read by its output, asked over HTTP, stopped with Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.daemon import environment

_START_SECONDS = 300.0  # a first time downloads
_STOP_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running one. Addresses as host:port, connection strings of superusers."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def said(self, pattern: str) -> str:
        """The first group of what it printed somewhere."""
        found = re.search(pattern, self.text(), re.MULTILINE)
        assert found is not None, self.text()
        return found[1]

    @property
    def crossfade(self) -> str:
        return self.said(r"^ +crossfade +http://([\d.:]+)/")

    @property
    def pid(self) -> int:
        return int(self.said(r"\(pid (\d+)\)"))

    @property
    def prometheus(self) -> str:
        return self.said(r"^ +Prometheus +http://([\d.:]+)/")

    @property
    def alertmanager(self) -> str:
        return self.said(r"^ +Alertmanager +http://([\d.:]+)$")

    @property
    def legacy(self) -> str:
        return shlex.split(self.said(r"^ +legacy +psql (.+)$"))[0]

    @property
    def new(self) -> str:
        return shlex.split(self.said(r"^ +new +psql (.+)$"))[0]

    @property
    def exports(self) -> Mapping[str, str]:
        """The environment of its operator."""
        lines = re.findall(r"^ +export (\w+)=(.+)$", self.text(), re.MULTILINE)
        return {name: shlex.split(value)[0] for name, value in lines}

    def ask(self, path: str, **parameters: object) -> Any:
        """Prometheus' answer: the `data` of its API."""
        encoded = urllib.parse.urlencode(parameters, doseq=True)
        with urllib.request.urlopen(f"http://{self.prometheus}/api/v1/{path}?{encoded}", timeout=30) as answer:
            return json.load(answer)["data"]

    def value(self, expr: str) -> float | None:
        """The first series' value now; None when there is none."""
        found = self.ask("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else None

    def until(self, said: Callable[[], object], what: str, timeout: float = 60.0) -> None:
        """Until `said()` is true."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(OSError):
                if said():
                    return
            assert self.process.poll() is None, f"{what}: the stack has ended\n{self.text()}"
            assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s\n{self.text()}"
            time.sleep(0.2)

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Stack]:
    """The stack with these arguments; whatever happens it is stopped. Everything temporary goes under `folder`."""
    log = folder / "stack.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.stack", *arguments],
            cwd=Path(__file__).parents[2],
            env=environment({name: os.environ[name] for name in ("PATH",)}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    stack = Stack(process, log)
    try:
        stack.until(lambda: "Everything runs" in stack.text(), "started", _START_SECONDS)
        yield stack
    finally:
        if process.poll() is None:
            stack.interrupt()


def hastened(rules: Path, folder: Path) -> Path:
    """A copy of the rules that waits a second wherever the shipped ones wait for minutes: for tests alone."""
    copy = folder / "alerts.hastened.yml"
    copy.write_text(re.sub(r"^( +for:) \d+[smh]$", r"\1 1s", rules.read_text(), flags=re.MULTILINE))
    return copy
