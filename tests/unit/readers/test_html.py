"""HTML pages: the main text with title and date, in the encoding that the page names, or a sentence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.readers import read
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

pytest.importorskip("trafilatura")

Read = Callable[..., tuple[list[Document], list[Rejection]]]
ARTICLE = (
    "<article><h1>Big news</h1>"
    + "".join(f"<p>Paragraph {n} is long enough to be the content of a page.</p>" for n in range(5))
    + "</article>"
)
PAGE = (
    "<html lang=en><head><title>Big news</title><meta name=date content=2024-02-29></head>"
    "<body><nav><a href=/>Home</a></nav>"
    f"{ARTICLE}<script>evil()</script><footer>Imprint</footer></body></html>"
)


def test_a_page_is_its_main_text_with_title_and_date(read_bytes: Read) -> None:
    (document,), rejections = read_bytes("a.html", PAGE)
    assert rejections == []
    assert document.id == "a.html"
    assert document.text.startswith("Big news")
    assert document.text.count("is long enough to be the content") == 5
    assert not any(word in document.text for word in ("Home", "evil", "Imprint"))
    assert document.metadata == {"source": "a.html", "title": "Big news", "date": "2024-02-29"}


@pytest.mark.parametrize("declared", ["gb2312", "GBK", "gb18030"])
def test_a_page_is_read_in_the_encoding_that_it_names(read_bytes: Read, declared: str) -> None:
    page = f"<meta charset={declared}><title>标题</title><p>短文，镕鎔。</p>".encode("gb18030")
    (document,), _ = read_bytes("a.htm", page)
    assert (document.text, document.metadata["title"]) == ("短文，镕鎔。", "标题")


def test_without_a_name_the_encoding_is_found_and_a_callers_name_wins(read_bytes: Read) -> None:
    page = "<p>这是一段没有声明编码的网页文字，应当被认出来。</p>"
    (document,), _ = read_bytes("a.html", page.encode("gb18030"))
    assert document.text == page[3:-4]
    (document,), _ = read_bytes("b.html", f"<meta charset=utf-8>{page}".encode("gb18030"), encoding="gb18030")
    assert document.text == page[3:-4]


@pytest.mark.parametrize(
    "page", ["plain words & no tags", "<p>plain words &amp; no tags", "<div>plain words &amp; no tags</div>"]
)
def test_pieces_of_pages_are_read_too(read_bytes: Read, page: str) -> None:
    (document,), _ = read_bytes("a.html", page)
    assert document.text.strip() == "plain words & no tags"


@pytest.mark.parametrize("page", ["", " ", "<html><script>app()</script></html>", "<html><img src=x></html>"])
def test_a_page_without_text_says_so(read_bytes: Read, page: str) -> None:
    documents, (rejection,) = read_bytes("a.html", page)
    assert (documents, rejection.reason.startswith("page: expected text, got none; pages that scripts fill")) == (
        [],
        True,
    )


def test_what_is_no_page_is_refused_by_name(read_bytes: Read) -> None:
    _, (rejection,) = read_bytes("a.html", b"%PDF-1.4 \0\1\2" * 100)
    assert rejection.reason == "file: expected text, got a PDF document"


def test_a_huge_page_takes_little_time(read_bytes: Read) -> None:
    (document,), _ = read_bytes("a.html", "<html>" + "<p>a<b>b</b>c</p>" * 20_000 + "</html>")
    assert len(document.text) >= 20_000 * 3


def test_without_trafilatura_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"reading html needs trafilatura.*pip install 'gristmill\[files\]'"):
        read([tmp_path / "a.html"])
