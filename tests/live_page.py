"""The live page in a real browser: a tab of it, opened as somebody opens it who has its key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Debian's: playwright brings none.
CHROMIUM = shutil.which("chromium")
#: Longest wait for a browser on a busy machine, milliseconds; playwright's own is half a minute.
PATIENCE_MS = 120_000


@contextmanager
def started_browser() -> Iterator[Any]:
    """Start the machine's Chromium; it ends with the block."""
    from playwright.sync_api import sync_playwright  # the extra dev brings it; who only collects tests may be without

    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE_MS)
        yield started
        started.close()


@dataclass(frozen=True)
class Opened:
    """The page in a tab, what its console said and what it asked for."""

    tab: Any
    said: list[str]
    asked: list[str]

    def text(self, selector: str) -> str:
        """Return what a reader sees there."""
        return str(self.tab.locator(selector).inner_text())

    def unlock(self, key: str) -> None:
        """Hand over a key as somebody types it."""
        self.tab.fill("#key-field", key)
        self.tab.press("#key-field", "Enter")

    def search(self, collection: str, query: str) -> None:
        """Search by meaning and by words for the best two, and ask for the explanation."""
        self.tab.fill("#search-query", query)
        self.tab.select_option("#search-collection", collection)
        self.tab.select_option("#search-mode", "hybrid")
        self.tab.fill("#search-limit", "2")
        self.tab.check("#search-explain")
        self.tab.press("#search-query", "Enter")
        self.tab.locator("#hits li").nth(1).wait_for()


def open_page(browser: Any, address: str, **how: Any) -> Opened:
    """Open it in a browser that knows nothing yet; `how` is of playwright's `new_context`."""
    tab = browser.new_context(**how).new_page()
    tab.set_default_timeout(PATIENCE_MS)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{address}/live/")
    return Opened(tab, said, asked)


def close(tab: Any) -> None:
    """Without those who answer for the server: they may be at it."""
    tab.unroute_all(behavior="ignoreErrors")
    tab.context.close()
