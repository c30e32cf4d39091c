"""Labelled texts and pairs out of JSON Lines; or those that ship, by name.

{"text": "租客提前半年退租……", "label": "合同纠纷"}             a text and its class
{"a": "快递怎么还没到", "b": "我的包裹等了一个星期了", "same": true}     a pair; `"kind": …`, its sort, may be added
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gristmill.arguments import flag, identifier, text
from gristmill.evaluation import sets
from gristmill.evaluation.questions.lines import STDIN, Problems, numbered_lines
from gristmill.readers.jsonl import parse_object
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_TEXT_BYTES
from gristmill_schemas.validation import shown

T = TypeVar("T")

#: What others call the fields.
_ELSEWHERE = {
    **dict.fromkeys(("sentence1", "text1", "text_a", "query", "premise"), "a"),
    **dict.fromkeys(("sentence2", "text2", "text_b", "passage", "hypothesis"), "b"),
    **dict.fromkeys(("label", "score", "is_duplicate", "equal"), "same"),
    **dict.fromkeys(("class", "category", "topic", "cluster"), "label"),
    **dict.fromkeys(("sentence", "content", "document"), "text"),
}


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, and the class that somebody put it in."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether they say the same."""

    a: str
    b: str
    same: bool
    #: What sort of pair it is, to count apart; empty where nobody said.
    kind: str = ""


def read_texts(source: str | Path) -> list[LabelledText]:
    """Labelled texts of two classes or more, in their order.

    Args:
        source: a JSONL file, `-` for standard input, or `legal`, which ships.

    Raises:
        InvalidInput: the file cannot be read, a line is wrong, or there is only one class. The message names the place.
    """
    found = _read(source, "legal", _labelled_text)
    if len(classes := Counter(each.label for each in found)) < 2:
        raise InvalidInput(
            f"label: expected texts of at least two classes in {source}, got {len(found)} texts of "
            f"{', '.join(map(shown, classes)) or 'none'}",
            field="label",
        )
    return found


def read_pairs(source: str | Path) -> list[Pair]:
    """Pairs of both kinds, in their order.

    Args:
        source: a JSONL file, `-` for standard input, or `pairs`, which ships.

    Raises:
        InvalidInput: the file cannot be read, a line is wrong, or there are fewer than two of a kind. The message names
            the place.
    """
    found = _read(source, "pairs", _pair)
    if min(counted := [sum(each.same is kind for each in found) for kind in (True, False)]) < 2:
        raise InvalidInput(
            f"same: expected at least two pairs that say the same and two that do not in {source}, got {counted[0]} and "
            f"{counted[1]}: a threshold lies between the two",
            field="same",
        )
    return found


def _read(source: str | Path, shipped: str, made: Callable[[Mapping[str, Any]], T]) -> list[T]:
    path = Path(source)
    if str(source) == shipped and not path.exists():
        return [made(record) for record in sets.records(shipped)]
    if str(source) != STDIN and not path.exists():
        raise InvalidInput(
            f"file: expected a JSONL file, or {shipped!r}, which ships; there is no {shown(str(source))}"
        )
    problems = Problems(path)
    found = list(_records(path, problems, made))
    problems.raise_any()
    return found


def _records(path: Path, problems: Problems, made: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    for number, line in numbered_lines(path):
        with problems.of_line(number):
            yield made(parse_object(line))


def _labelled_text(record: Mapping[str, Any]) -> LabelledText:
    _check(record, ("text", "label"))
    return LabelledText(text("text", record["text"], MAX_TEXT_BYTES), identifier("label", record["label"]))


def _pair(record: Mapping[str, Any]) -> Pair:
    _check(record, ("a", "b", "same"), ("kind",))
    a, b = (text(name, record[name], MAX_TEXT_BYTES) for name in ("a", "b"))
    return Pair(a, b, flag("same", record["same"]), identifier("kind", record["kind"]) if "kind" in record else "")


def _check(record: Mapping[str, Any], needed: tuple[str, ...], more: tuple[str, ...] = ()) -> None:
    known = (*needed, *more)
    for field in record:
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            meant = _ELSEWHERE.get(field.lower()) or (close[0] if close else None)
            hint = f"; did you mean {meant!r}?" if meant in known else ""
            raise InvalidInput(f"{field}: expected {', '.join(known)}, got another field{hint}", field=field)
    for field in needed:
        if field not in record:
            raise InvalidInput(f"{field}: expected it, got a record without it", field=field)
