"""Links out of `docs/`, to a file of the repository, lead to where the repository is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_FILES = "https://github.com/gristmill/gristmill/blob/main"
_LINKS = re.compile(r"\]\((\.\./[^)#]+)")


def lead_out(app: Sphinx, document: str, source: list[str]) -> None:
    """Give a page's links their addresses, where they leave the folder of the pages."""
    pages = Path(app.srcdir).resolve()
    folder = (pages / document).parent

    def led(link: re.Match[str]) -> str:
        file = (folder / link[1]).resolve()
        inside = file.is_relative_to(pages) or not file.exists()
        return link[0] if inside else f"]({_FILES}/{file.relative_to(pages.parent)}"

    source[0] = _LINKS.sub(led, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Before a page is parsed."""
    app.connect("source-read", lead_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
