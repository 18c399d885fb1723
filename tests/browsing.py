"""A served collection and a browser that looks at it, for the tests of pages. Screenshots go to test-results/pages."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

SHOTS = Path(__file__).parent.parent / "test-results" / "pages"
WIDE, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 800}
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 60_000
"""Milliseconds that a page may take on a machine that does other things beside."""


@contextmanager
def served(*words: str | os.PathLike[str]) -> Iterator[str]:
    """`imagier serve WORDS` in a process of its own; its address."""
    command = [sys.executable, "-m", "imagier.cli", "serve", *map(str, words), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"(http://\S+:\d+)/", line)
        assert found is not None, line
        try:
            yield found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """Debian's Chromium, with these flags more. Skips where there is none, but fails in continuous integration."""
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium on this machine"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield opened
        opened.close()


@contextmanager
def page(
    opened: Browser, address: str, *, dark: bool = False, phone: bool = False, offline: bool = False
) -> Iterator[Page]:
    """A page in a fresh context. What a page says on the console, or cannot load, fails the test.

    offline: its network will go, which the console says too.
    """
    context = opened.new_context(
        base_url=address,
        viewport=PHONE if phone else WIDE,
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        accept_downloads=True,
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    wrong: list[str] = []
    made = context.new_page()
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("request", lambda asked: wrong.append(asked.url) if not _own(asked.url, address) else None)
    try:
        yield made
    finally:
        context.close()
    assert not [each for each in wrong if not EXPECTED.search(each) and not (offline and OFFLINE in each)], wrong


EXPECTED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")
"""What a browser says of refusals, which pages tell in words of their own."""


OFFLINE = "net::ERR_INTERNET_DISCONNECTED"
"""And of a network that is gone."""


def _own(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def shoot(made: Page, name: str) -> Path:
    """A screenshot, to be looked at after the run."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    made.wait_for_timeout(300)
    made.screenshot(path=path)
    return path
