"""Front matter of Markdown: YAML between two rules at the top of the file.

PyYAML reads it, with three additions. What it would expand is bounded: each alias counts as much as what it stands for,
so that ten lines cannot become a billion values. A value that YAML cannot make, such as the 30th of February, is named
with its line. A key that occurs twice is refused, since one of the two would be lost in silence.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import reprlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gristmill.readers.files.lines import BadLine
from gristmill.readers.records import plain
from gristmill_schemas.limits import MAX_METADATA_BYTES

if TYPE_CHECKING:
    import yaml

#: More characters would not fit into a document's metadata.
_MAX_CHARS: Final = MAX_METADATA_BYTES
#: Most characters and values together, aliases replaced by what they stand for.
_MAX_EXPANDED: Final = 2 * MAX_METADATA_BYTES

_FRONT_MATTER: Final = re.compile(r"---[ \t]*\n(?P<yaml>(?:.*\n)*?)---[ \t]*(?:\n|$)")


def split_front_matter(content: str) -> tuple[dict[str, Any], int, str]:
    """Front matter, how many lines it takes, and what follows it.

    Raises:
        BadLine: it is no YAML, or too much of it; or PyYAML is not installed.
    """
    found = _FRONT_MATTER.match(content)
    if found is None:
        return {}, 0, content
    if len(found["yaml"]) > _MAX_CHARS:
        raise BadLine(f"front matter: expected at most {_MAX_CHARS} characters, got {len(found['yaml'])}", line=1)
    front = _parsed(found["yaml"])
    if not isinstance(front, dict) or not front:
        # Between the two rules is prose, or a list, or nothing: that is the file's own.
        return {}, 0, content
    return front, found[0].count("\n"), content[found.end() :]


def _parsed(text: str) -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise BadLine(
            "front matter: reading it needs PyYAML, which is not installed; run: pip install 'gristmill[files]'", line=1
        )
    import yaml

    try:
        return plain(yaml.load(text, _loader()))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # The rule above it is line 1.
        raise BadLine(f"front matter: expected YAML: {_problem(error)}", line=mark.line + 2 if mark else 1) from None
    except RecursionError:
        raise BadLine("front matter: expected shallow nesting, got one too deep to read", line=1) from None


def _problem(error: Exception) -> str:
    return getattr(error, "problem", None) or " ".join(str(error).split())


@functools.cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    class Bounded(yaml.SafeLoader):
        """Safe, and bounded in what it expands."""

        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self._weights: dict[int, int] = {}

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            node = super().compose_node(parent, index)
            if node is not None:
                weight = self._weights.setdefault(id(node), 1 + len(node.value) if isinstance(node.value, str) else 1)
                total = self._weights[id(parent)] = self._weights.get(id(parent), 1) + weight
                if total > _MAX_EXPANDED:
                    problem = f"expected at most {_MAX_EXPANDED} characters once aliases are replaced, got more"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
            if twice := next((key for key, times in keys.items() if times > 1), None):
                problem = f"expected the key {twice!r} once, got it more than once"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
            return super().construct_mapping(node, deep)

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, OverflowError, ArithmeticError) as error:
                problem = f"expected a value, got {reprlib.repr(node.value)}: {error}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    return Bounded
