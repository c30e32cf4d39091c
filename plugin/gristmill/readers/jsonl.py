"""JSON Lines: one object per line.

Python's own `json` reads it: each line is parsed once, and its hooks see what a faster parser would swallow: NaN, which
is no JSON, and a field that occurs twice, of which one would be lost in silence.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.files.lines import BadLine, Text, numbered_lines
from gristmill.readers.files.source import Source
from gristmill.readers.records import to_document

#: Python's own `strip` takes more of a string for white space, and a line of it would vanish without a word.
BLANK = " \t\r\n\v\f"


def read_lines(text: Text, source: Source, options: Options) -> Iterator[Item]:
    """Documents of lines; blank ones are skipped."""
    for number, line in numbered_lines(text):
        if isinstance(line, BadLine):
            yield source.reject(number, str(line))
        elif line.strip(BLANK):
            yield record_of(source, number, partial(_item, line, number, source, options))


def _item(line: str, number: int, source: Source, options: Options) -> Item:
    return to_document(parse_object(line), source, number, options)


def parse_object(text: str, per: str = "line") -> dict[str, Any]:
    """One JSON object.

    Args:
        text: the JSON.
        per: what holds one, for messages.

    Raises:
        BadLine: it is not JSON, not an object, nested too deeply, or names a field twice.
    """
    record = parse(text)
    if not isinstance(record, dict):
        raise BadLine(f"JSON: expected an object per {per}, got {type(record).__name__}")
    return record


def parse(text: str) -> Any:
    """Any JSON value. Raises as `parse_object`."""
    try:
        return json.loads(text, parse_constant=_not_json, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 10) : error.pos + 20]
        raise BadLine(f"JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}, near {near!r}") from None
    except RecursionError:
        raise BadLine("JSON: expected shallow nesting, got one too deep to read") from None
    except BadLine:
        raise
    except ValueError:
        # Python refuses what would take it quadratic time.
        most = sys.get_int_max_str_digits()
        raise BadLine(f"JSON: expected integers of at most {most} digits, got a longer one") from None


def _not_json(constant: str) -> NoReturn:
    raise BadLine(f"JSON: expected a number or null, got {constant}, which JSON does not have")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise BadLine(f"{twice!r}: expected the field once, got it more than once in one object")
    return record
