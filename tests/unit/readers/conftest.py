from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.readers import read
from gristmill_schemas import Document, Rejection

Outcome = tuple[list[Document], list[Rejection]]


def sort_out(items: Any) -> Outcome:
    items = list(items)
    documents = [item for item in items if isinstance(item, Document)]
    return documents, [item for item in items if isinstance(item, Rejection)]


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[..., Outcome]:
    """Read one file with the given name and content."""

    def read_one(name: str, content: bytes | str, **options: Any) -> Outcome:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return sort_out(read([path], **{"root": tmp_path, **options}))

    return read_one
