"""The site that `make docs-site` built asks nothing of anybody else, shows every public name, and finds Chinese words."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import gristmill

SITE = Path(__file__).parents[2] / "build" / "docs"


class _Loaded(HTMLParser):
    """What a browser fetches with a page: all that tags name, but for links that somebody has to click."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [
                value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")
            ]


def test_no_page_loads_anything_from_elsewhere() -> None:
    loaded = {address for page in SITE.rglob("*.html") for address in _Loaded(page.read_text("utf-8")).addresses}
    styles = "".join(sheet.read_text("utf-8") for sheet in SITE.rglob("*.css"))
    named = re.findall(r"@import[^;]+|url\([\"']?(?!data:)([^)\"']+)", styles)
    assert loaded
    assert [address for address in {*loaded, *named} if re.match(r"(?:[a-z]+:)?//", address)] == []


def test_every_public_name_has_its_place_in_the_reference() -> None:
    names = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="").data
    shown = {name for kind, entries in names.items() if kind.startswith("py:") for name in entries}
    assert sorted(name for name in gristmill.__all__ if f"gristmill.{name}" not in shown) == ["__version__"]


@pytest.mark.parametrize(
    ("words", "page"),
    [("优惠券要在结算页", "frameworks"), ("reranking candidates", "Rerank"), ("用了优惠券 presets", "Instructions")],
)
def test_the_search_finds_english_and_chinese_words_without_a_server(words: str, page: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not (browser := shutil.which("chromium")):
        pytest.skip("no chromium on PATH")
    asked: list[str] = []
    with sync_api.sync_playwright() as play:
        tab = play.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{(SITE / 'search.html').as_uri()}?q={words}")
        tab.wait_for_selector("#search-results li")
        found = tab.locator("#search-results li > a").all_inner_texts()
    assert [title for title in found if page in title], found
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
