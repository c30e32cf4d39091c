"""The Python of the pages runs as it stands there: a page's blocks one after the other, on the store of a real Qdrant.

What a page takes for granted is made before: a client, a collection with some documents, a file of questions. `Client()` and
`Client.embedded(model=…)` give a client with an encoder whose vectors mean nothing: this is about calls, not about hits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import gristmill
from gristmill import Chunking, Client, Document
from places import ways_to
from services import QdrantServer

DOCS = Path(__file__).parents[2] / "docs"
#: `adapters/test_examples_of_the_page.py` holds these against the model that ships.
ELSEWHERE = ("adapters",)
PAGES = [
    page for page in sorted(DOCS.rglob("*.md")) if "```python" in page.read_text("utf-8") and page.stem not in ELSEWHERE
]
#: Collections that a page takes for granted, where that is not `faq`.
TAKEN_FOR_GRANTED: dict[str, tuple[str, ...]] = {
    "clustering": ("tickets",),
    "first-search": ("notes",),
    "instructions-and-lenses": ("tickets",),
    "tenants": (),
}
#: Before an excerpt of a whole example, which a test of its own runs.
EXCERPT = "<!-- from "
QUESTIONS = [{"query": "用了优惠券但没减钱", "expected": ["42"]}, {"query": "E-4012", "expected": ["43"]}]


class Anywhere:
    """Stands where the pages say `Client`: whatever servers and models they name, these are ours."""

    def __init__(self, server: QdrantServer) -> None:
        self._server = server
        self._opened = ExitStack()

    def __call__(self, *_: Any, **__: Any) -> Client:
        way = ways_to(self._server)
        client = Client.embedded(self._server.url, model="hash:16", reranker="overlap:40", threads=1, **way)
        return self._opened.enter_context(client)

    def close(self) -> None:
        """Pages open clients and leave them open."""
        self._opened.close()

    embedded = __call__


@pytest.fixture
def anywhere(qdrant_server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Anywhere]:
    before = Anywhere(qdrant_server)
    monkeypatch.setattr(gristmill, "Client", before)
    yield before
    before.close()
    qdrant_server.drop_collections("")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
@pytest.mark.filterwarnings("ignore::UserWarning:qdrant_client")
def test_the_examples_of_a_page_run(page: Path, anywhere: Anywhere) -> None:
    Path("questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)), "utf-8")
    client = anywhere()
    for name in TAKEN_FOR_GRANTED.get(page.stem, ("faq",)):
        _prepare(client, name)
    example = Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page)
    example.namespace.update(client=client, documents=_documents(), Document=Document, Chunking=Chunking)
    for each in example.examples():
        _run(each)


def _run(example: Any) -> None:
    if not re.search(rf"{EXCERPT}\S+ -->\n$", example.document.text[: example.start]):
        with suppress(SkipTest):
            example.evaluate()


def _prepare(client: Client, name: str) -> None:
    lenses = {"feeling": "Given a message, find how its writer feels"}
    client.create_collection(name, lenses=lenses, indexes={"year": "integer", "published": "datetime"})
    client.enqueue(name, _documents()).wait().raise_for_failures()


def _documents() -> list[Document]:
    return [
        Document(id=number, text=text, metadata={"lang": "zh", "year": 2026, "views": 7, "published": date(2026, 1, 1)})
        for number, text in [
            ("42", "满减券不生效怎么办？"),
            ("43", "E-4012: the refund is late"),
            ("7", "怎么修改收货地址？"),
        ]
    ]
