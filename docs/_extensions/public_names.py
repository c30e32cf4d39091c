"""How docstrings become reference: types lead to their public names, sections are read as they are written here.

Returns:                          a sentence; its colon does not end a type, which the signature says
Raises:  InvalidInput, NoWorker.  names with a full stop behind them
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils.nodes import Element, reference
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_SENTENCE = re.compile(r"^(Returns|Yields):$")
_NAMES = re.compile(r"^(\s*[A-Z]\w+(?:, [A-Z]\w+)*)\.$")


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> reference | None:
    """Where `gristmill` shows what Sphinx knows only by the module that it is written in; None where it does not."""
    name = node.get("reftarget", "").rpartition(".")[2]
    found = env.domains.python_domain.objects.get(f"gristmill.{name}") if node.get("refdomain") == "py" else None
    return found and make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, name)


def as_written(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Before napoleon reads them: an empty type before each sentence, and names without their full stop."""
    if what in ("attribute", "property", "data") and lines:
        lines[0] = f": {lines[0]}"
    for at, line in enumerate(lines):
        lines[at] = _NAMES.sub(r"\1", line)
        if at and _SENTENCE.match(lines[at - 1].strip()):
            lines[at] = re.sub(r"\S", lambda first: f": {first[0]}", line, count=1)


def without_making(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Only clients are made by hand. A record's fields stand below it, and the rest comes from calls."""
    made = what != "class" or name.endswith((".Client", ".AsyncClient"))
    return None if made or signature is None else ("", None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask here before a reference is called missing, and before napoleon."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", as_written, priority=400)
    app.connect("autodoc-process-signature", without_making)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
