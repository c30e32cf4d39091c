"""Real text in any amount, for trying workers out: the docstrings of the running Python's standard library, as JSONL.

    python -m gristmill_worker.demo.paragraphs 5000 > docs.jsonl

One document per paragraph of at least 80 characters; sources are read in sorted order, so ids and texts are the same at
every run of the same Python.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gristmill_schemas import Document

_LEAST_CHARACTERS = 80
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def paragraphs() -> Iterator[Document]:
    """Every paragraph once, however many modules share it."""
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        if "site-packages" in module or ".test." in f".{module}.":
            continue
        for name, text in _docstrings(path):
            for number, paragraph in enumerate(_split(text)):
                digest = hashlib.sha256(paragraph.encode()).hexdigest()
                if digest not in seen:
                    seen.add(digest)
                    yield Document(
                        id=f"{module}:{name}:{number}:{digest[:8]}",
                        text=paragraph,
                        metadata={"module": module, "name": name, "lang": "en"},
                    )


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules have escapes that newer Pythons warn of
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), inspect.cleandoc(text)


def _split(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        paragraph = block.strip()
        if len(paragraph) >= _LEAST_CHARACTERS and "\0" not in paragraph:
            yield paragraph


if __name__ == "__main__":
    for document in islice(paragraphs(), int(sys.argv[1]) if len(sys.argv) > 1 else None):
        sys.stdout.write(document.model_dump_json(exclude_none=True) + "\n")
