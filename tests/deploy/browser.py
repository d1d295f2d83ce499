"""A real browser without a screen: Debian's Chromium, driven by its ChromeDriver over the W3C WebDriver protocol.

The protocol is plain JSON over HTTP, so aiohttp is all it takes. Knows no page. Whatever a page writes to its console
is kept, and so is every violation of a content security policy (Chromium writes those there as well).

W3C: webdriver. ChromeDriver: capabilities ("goog:chromeOptions", "goog:loggingPrefs").
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.deploy.tools import Program
from tests.servers.daemon import free_port

_START_SECONDS: Final = 60.0
_TICK: Final = 0.1
# As root there is no sandbox; the others keep it from asking for hosts of its own, which a test machine may not reach.
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


@dataclass(slots=True)
class Browser:
    """One window."""

    client: aiohttp.ClientSession
    session: str

    async def command(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of the protocol; its value. An error of the page or the browser fails the test."""
        async with self.client.request(method, f"{self.session}{path}", json=body) as answer:
            value = (await answer.json(content_type=None))["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        await self.command("POST", "/url", {"url": url})

    async def run(self, script: str, *arguments: object) -> Any:
        """What a piece of JavaScript returns; a promise is waited for."""
        return await self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    async def tell(self, name: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return await self.command("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    async def text(self, selector: str) -> str:
        """What is visible of the first element."""
        return str(await self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    async def until(self, selector: str, words: str, *, seconds: float = 30.0) -> str:
        """Wait until an element's visible text holds the words; the text."""
        return str(
            await self.until_true(
                "const t = document.querySelector(arguments[0])?.innerText ?? ''; return t.includes(arguments[1]) && t",
                selector,
                words,
                seconds=seconds,
            )
        )

    async def until_true(self, script: str, *arguments: object, seconds: float = 30.0) -> Any:
        """Wait until a script returns something true."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (value := await self.run(script, *arguments)):
            if asyncio.get_running_loop().time() > deadline:
                body = await self.run("return document.body.innerText")
                raise AssertionError(f"not within {seconds:g} s: {script} {arguments}\nThe page says:\n{body}")
            await asyncio.sleep(_TICK)
        return value

    async def screenshot(self, path: Path, *, width: int, dark: bool) -> None:
        """The whole page as PNG, in one of the two schemes."""
        await self.show(width=width, dark=dark)
        height = int(await self.run("return document.documentElement.scrollHeight"))
        await self.show(width=width, dark=dark, height=height)
        await asyncio.sleep(0.3)  # until it is drawn anew; nothing tells
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(await self.command("GET", "/screenshot")))

    async def show(self, *, width: int, dark: bool, height: int = 900) -> None:
        """A window of this size, for somebody who likes it dark or light."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.tell("Emulation.setEmulatedMedia", features=[scheme])

    async def key(self, key: str) -> None:
        """Press and release one key, as somebody at the keyboard."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        await self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    async def console(self) -> list[str]:
        """What was written to the console since the last time asked: warnings, errors, violations."""
        entries = await self.command("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries if entry["level"] in ("WARNING", "SEVERE")]


@asynccontextmanager
async def chromium(browser: Program, driver: Program) -> AsyncIterator[Browser]:
    """A browser with an empty profile, gone afterwards."""
    port = free_port()
    environment = {**os.environ, **browser.environment}
    with tempfile.TemporaryDirectory(prefix="crossfade-browser-") as profile:
        process = subprocess.Popen(
            [str(driver.path), f"--port={port}", "--log-level=SEVERE"],
            env={**environment, "HOME": profile},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                await _until_ready(client)
                options = {"binary": str(browser.path), "args": [*_FLAGS, f"--user-data-dir={profile}/profile"]}
                wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
                async with client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}) as answer:
                    value = (await answer.json(content_type=None))["value"]
                assert "sessionId" in value, value
                opened = Browser(client, f"/session/{value['sessionId']}")
                try:
                    yield opened
                finally:
                    await opened.command("DELETE", "")
        finally:
            process.terminate()
            process.wait(30)


async def _until_ready(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                async with client.get("/status") as answer:
                    if (await answer.json(content_type=None))["value"]["ready"]:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(_TICK)
