"""Keys of metadata as paths that Qdrant reads, in filters and in indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: A path as Qdrant reads it. Other letters than these are quoted, since its parsers differ in what they take for a letter.
PATH_PART = r'(?:[A-Za-z0-9_-]+|"[^"\\]*")(?:\[\d*\])*'
_PATH = re.compile(rf"{PATH_PART}(?:\.{PATH_PART})*")


def payload_path(key: str) -> str:
    """The key as Qdrant reads it: parts that are no plain words go into quotes, such as those with spaces.

    Raises:
        ValueError: Qdrant has no way to say this key.
    """
    if _PATH.fullmatch(key):
        return key
    if '"' in key or "\\" in key:
        raise ValueError("expected a key that Qdrant can name, got one with double quotes or backslashes inside")
    parts = key.split(".")
    if not all(part.strip() for part in parts):  # such as `No.`: nothing stands behind the dot, so it is the name's own
        parts = [key]
    return ".".join(part if _PATH.fullmatch(part) else f'"{part}"' for part in parts)


def first_part(path: str) -> str:
    """The key at the top that a path begins with, without quotes and places in lists."""
    return next(iter(parts_of(path)), "")


def parts_of(path: str) -> list[str]:
    """The keys of a path, without quotes and places in lists."""
    return [re.sub(r"(\[\d*\])+$", "", part).strip('"') for part in re.findall(PATH_PART, path)]


def reached(value: Any, parts: list[str]) -> Iterator[Any]:
    """What stands in a payload under the keys of a path, each item of the lists on the way."""
    if isinstance(value, list):
        for each in value:
            yield from reached(each, parts)
    elif not parts:
        yield value
    elif isinstance(value, Mapping) and parts[0] in value:
        yield from reached(value[parts[0]], parts[1:])
