"""JSON files: an array of objects, one object, or lines that only look like one file.

An array is cut into its elements by a scan that knows strings and brackets, and each element is parsed on its own: memory
holds one element, a broken one fails alone, and the parser's hooks see what streaming parsers (ijson) swallow, a field that
occurs twice. Only an element whose quotes or brackets do not close takes what follows with it.

`.json` and `.jsonl` are told apart by what they hold: a bracket begins an array; an object that ends with its line begins
JSON Lines, which many tools write under `.json`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.files.lines import MAX_LINE_CHARS, BadLine, Text, undecoded
from gristmill.readers.files.source import Source
from gristmill.readers.jsonl import BLANK, parse, parse_object, read_lines
from gristmill.readers.records import to_document
from gristmill_schemas import Rejection

_CHUNK_CHARS: Final = 64 * 1024
#: Within a string a backslash and what follows it; else what opens, closes and separates.
_TOKEN: Final = re.compile(r'\\.|["{}\[\],]', re.DOTALL)


def read_jsonl(source: Source, options: Options) -> Iterator[Item]:
    """Documents of lines; of the elements, where the file is an array all the same."""
    with source.open_text() as text:
        begun = _Begun(text)
        line = begun.first.strip(BLANK)
        if line == "[" or re.match(r"\[\s*\{", line):
            yield from _array(begun, source, options)
        else:
            yield from read_lines(cast("Text", begun), source, options)


def read_json(source: Source, options: Options) -> Iterator[Item]:
    """Documents of an array's elements, of lines, or the one that the file is."""
    with source.open_text() as text:
        begun = _Begun(text)
        line = begun.first.strip(BLANK)
        if line.startswith("["):
            yield from _array(begun, source, options)
        elif _is_object(line) and begun.goes_on():
            yield from read_lines(cast("Text", begun), source, options)
        else:
            yield from _single(begun, source, options)


class _Begun:
    """A text whose first line that is not blank has been looked at."""

    def __init__(self, text: Text) -> None:
        self.encoding, self.line_end = text.encoding, text.line_end
        self._text = text
        self._held = io.StringIO(newline=text.line_end)
        self.first = self._hold()

    def _hold(self) -> str:
        """The next line that is not blank; it stays to be read."""
        at, line = self._held.tell(), ""
        self._held.seek(0, io.SEEK_END)
        while self._held.tell() < MAX_LINE_CHARS and not line.strip(BLANK):
            line = self._text.readline(MAX_LINE_CHARS + 1)
            self._held.write(line)
            if not line:
                break
        self._held.seek(at)
        return line

    def goes_on(self) -> bool:
        """Whether anything follows the first line."""
        return bool(self._hold().strip(BLANK))

    def readline(self, size: int) -> str:
        return self._held.readline(size) or self._text.readline(size)

    def read(self, size: int) -> str:
        return self._held.read(size) or self._text.read(size)


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse(line), dict)
    except BadLine:
        return False


@dataclass(frozen=True, slots=True)
class _Element:
    """One element of an array as it stands in the file."""

    #: From 1.
    number: int
    #: Where it begins, from 1.
    line: int
    text: str
    #: Characters of it beyond the bound; then `text` is cut.
    beyond: int = 0


def _array(text: _Begun, source: Source, options: Options) -> Iterator[Item]:
    elements = _Elements(text)
    for element in elements:
        yield record_of(source, element.line, partial(_item, element, text.encoding, source, options))
    if elements.problem:
        yield source.reject(elements.line, f"JSON: {elements.problem}")


def _item(element: _Element, encoding: str, source: Source, options: Options) -> Item:
    where = f"element {element.number:,} of the array"
    if element.beyond:
        size = len(element.text) + element.beyond
        raise BadLine(f"{where}: expected at most {MAX_LINE_CHARS} characters, got {size}", element.line)
    if bad := undecoded(element.text, encoding, element.line, of=where):
        raise bad
    try:
        record = parse_object(element.text, "element")
    except BadLine as error:
        raise BadLine(f"{where}: {error}", element.line) from None
    return _placed(to_document(record, source, element.line, options), where)


class _Elements(Iterator[_Element]):
    """Cuts an array into its elements."""

    def __init__(self, text: _Begun) -> None:
        self._text = text
        #: Where the scan is, from 1.
        self.line = 1
        #: What is wrong with the array itself, once its elements are through.
        self.problem = ""
        self._cut = self._scan()

    def __next__(self) -> _Element:
        return next(self._cut)

    def _chunks(self) -> Iterator[str]:
        while chunk := self._text.read(_CHUNK_CHARS):
            while chunk.endswith("\\") and (more := self._text.read(1)):  # it belongs to the character after it
                chunk += more
            yield chunk

    def _scan(self) -> Iterator[_Element]:
        depth, quoted, ended = 0, False, False
        current = _Gathered()
        for chunk in self._chunks():
            start = 0
            for token in _TOKEN.finditer(chunk):
                mark = token[0]
                if ended:
                    break
                if mark == '"':
                    quoted = not quoted
                elif quoted or mark[0] == "\\":
                    continue
                elif mark in "[{":
                    depth += 1
                    if depth == 1:
                        self._pass(chunk[start : token.end()])
                        start = token.end()
                elif (mark == "," and depth == 1) or (mark in "]}" and depth == 1):
                    element = current.add(chunk[start : token.start()], self.line)
                    self._pass(chunk[start : token.end()])
                    start = token.end()
                    ended = mark != ","
                    if element.any or not ended:
                        yield current.done()
                elif mark in "]}":
                    depth -= 1
            rest = chunk[start:]
            if ended:
                if rest.strip(BLANK):
                    self.problem = f"expected nothing after the array's end, got {rest.strip(BLANK)[:40]!r}"
                    return
            else:
                current.add(rest, self.line)
            self._pass(rest)
        if not ended:
            after = f"after {current.finished:,} elements"
            self.problem = f"expected the array to end with ], got the end of the file {after}: is it cut off?"

    def _pass(self, text: str) -> None:
        self.line += text.count(self._text.line_end)


class _Gathered:
    """The element that the scan is in."""

    def __init__(self) -> None:
        self.finished = 0
        self._start()

    def _start(self) -> None:
        self._parts: list[str] = []
        self._size = self._beyond = 0
        self._line = 0
        self.any = False

    def add(self, part: str, line: int) -> _Gathered:
        """A part that begins on this line."""
        if not self.any and (bare := part.lstrip(BLANK)):
            self.any = True
            self._line = line + part[: len(part) - len(bare)].count("\n")
            part = bare
        room = max(0, MAX_LINE_CHARS - self._size)
        if self.any:
            self._parts.append(part[:room])
            self._size += len(part[:room])
            self._beyond += len(part[room:])
        return self

    def done(self) -> _Element:
        """The element, once its end is found; the next one begins."""
        self.finished += 1
        element = _Element(self.finished, max(1, self._line), "".join(self._parts), self._beyond)
        self._start()
        return element


def _single(text: _Begun, source: Source, options: Options) -> Iterator[Item]:
    parts: list[str] = []
    size = 0
    while (part := text.read(_CHUNK_CHARS)) and size <= MAX_LINE_CHARS:
        parts.append(part)
        size += len(part)
    if size > MAX_LINE_CHARS:
        raise BadLine(
            f"JSON: expected an array of objects or an object per line, got one value of more than {MAX_LINE_CHARS} "
            "characters; `jq -c '.NAME[]'` makes lines of an array inside of it"
        )
    content = "".join(parts)
    if bad := undecoded(content, text.encoding, of="file"):
        raise bad
    if not content.strip(BLANK):
        return
    record = parse_object(content, "file")
    inside = [name for name, value in record.items() if _is_array(value)]
    if options.text_field in record or len(inside) != 1:
        yield record_of(source, 1, lambda: to_document(record, source, 1, options))
        return
    for number, each in enumerate(record[inside[0]], 1):
        item = record_of(source, number, partial(to_document, each, source, number, options))
        yield _placed(item, f"element {number:,} of {inside[0]!r}")


def _placed(item: Item, where: str) -> Item:
    """The item; a rejection says where in the file."""
    return item.model_copy(update={"reason": f"{where}: {item.reason}"}) if isinstance(item, Rejection) else item


def _is_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
