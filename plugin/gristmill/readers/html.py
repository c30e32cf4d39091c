"""HTML: a page is a document, its text without navigation, advertisements and scripts.

Trafilatura finds the main text, by its own benchmarks and others' the best of its kind, and the page's title, date, author
and address, which become metadata. Where it finds no main text, as in short pages, all visible text is taken.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, Final

from gristmill.readers.base import Item, Options
from gristmill.readers.files.encoding import refuse_binary
from gristmill.readers.files.lines import BadLine, TooLong, undecoded, whole_text
from gristmill.readers.files.source import Source
from gristmill.readers.records import to_document

#: Largest page: its tree takes about ten times as much.
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
#: Analysing a page takes about 50 µs for each; of one with more, all visible text is taken.
_MAX_TAGS: Final = 40_000
#: Where a page has to say its encoding (HTML standard: the first 1,024 bytes; browsers look further).
_HEAD_BYTES: Final = 4096
_CHARSET: Final = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
#: What browsers make of names that pages get wrong (WHATWG Encoding Standard).
_AS_BROWSERS: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
}
_WHOLE: Final = re.compile(r"<html|<!doctype", re.IGNORECASE)
_METADATA: Final = ("title", "author", "date", "url", "sitename", "description", "language")


def read_html(source: Source, options: Options) -> Iterator[Item]:
    """The page as one document."""
    page = _page(source)
    text, about = _extracted(page)
    if not text.strip():
        raise BadLine(
            "page: expected text, got none; pages that scripts fill are saved with their text by a browser, as in "
            "`chromium --headless --dump-dom URL > page.html`"
        )
    yield to_document(
        {"id": source.key, "text": text, "metadata": {"source": source.key, **about}}, source, 1, Options()
    )


def _page(source: Source) -> str:
    """Its characters: as the caller says, as the page says, else as found out."""
    if source.encoding is None:
        with source.open() as stream:
            head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]  # type: ignore[attr-defined]  # a BufferedReader
            refuse_binary(head)
            if (encoding := _declared(head)) is not None:
                raw = stream.read(MAX_PAGE_BYTES + 1)
                if len(raw) > MAX_PAGE_BYTES:
                    raise TooLong(f"page: expected at most {MAX_PAGE_BYTES} bytes, got more")
                return raw.decode(encoding, "replace")
    with source.open_text() as text:
        content = whole_text(text, MAX_PAGE_BYTES)
    if bad := undecoded(content, text.encoding, of="page"):
        raise bad
    return content


def _declared(head: bytes) -> str | None:
    """The encoding that the page names; a mark at its beginning says more."""
    if head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    found = _CHARSET.search(head)
    if found is None:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "a".encode(name)
    except (LookupError, UnicodeError):
        return None
    # A page whose beginning could be read cannot be in UTF-16, whatever it says.
    return "utf-8" if name.startswith("utf-16") else _AS_BROWSERS.get(name, name)


def _extracted(page: str) -> tuple[str, dict[str, Any]]:
    import trafilatura

    # A piece of a page, as editors and databases have it, is else not taken for HTML.
    page = page.replace("\0", "")
    page = page if _WHOLE.search(page, 0, _HEAD_BYTES) else f"<html>{page}</html>"
    if page.count("<") > _MAX_TAGS:
        return trafilatura.html2txt(page), {}
    found = trafilatura.bare_extraction(page, with_metadata=True, include_comments=False, favor_recall=True)
    about = found or trafilatura.extract_metadata(page)
    values = {name: getattr(about, name, None) for name in _METADATA}
    text = getattr(found, "text", None) or ""
    return text if text.strip() else trafilatura.html2txt(page), {name: each for name, each in values.items() if each}
