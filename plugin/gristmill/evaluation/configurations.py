"""One way of searching, as the command line has it: which documents, under which model, asked how.

`mode=hybrid`, `instruction=preset:faq`, `collection=faq-large`, or several at once: `{"mode": "hybrid", "rerank": true}`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gristmill.search.filters import Where
from gristmill_schemas import SearchMode
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import shown

#: What a search of a mode has no use for, and another's has not to say when only the mode is changed.
_NO_USE: Mapping[str, tuple[str, ...]] = {SearchMode.DENSE: ("fusion",), SearchMode.KEYWORD: ("fusion", "lens")}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What may differ between two ways of searching. None is the default of whatever it is about."""

    #: A live collection; or documents (a file, or a set's name) that are encoded for this alone, by `model`.
    collection: str | None = None
    documents: str | None = None
    model: str | None = None
    #: The first numbers of each vector, exactly searched.
    dimensions: int | None = None
    #: Of documents that are stored on a server.
    quantization: str | None = None
    instruction: str | None = None
    lens: str | None = None
    mode: str = "dense"
    fusion: str | None = None
    rerank: bool | str | None = None
    rerank_top: int | None = None
    exact: bool = False
    tenant: str | None = None
    where: Where | None = None

    def told(self) -> dict[str, Any]:
        """What of it is not the default."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}

    def options(self) -> dict[str, Any]:
        """What of it `Client.search` takes."""
        own = {"collection", "documents", "model", "dimensions", "quantization"}
        return {name: value for name, value in asdict(self).items() if name not in own and value is not None}

    def changed(self, change: str) -> Configuration:
        """The same but for `key=value`, or for a JSON object's.

        Raises:
            InvalidInput: a key is none, or its value is of another type; the message has the nearest key.
        """
        return self._with(parse_change(change))

    def _with(self, changes: Mapping[str, Any]) -> Configuration:
        whole = dict(changes)
        if "collection" in whole:  # one place or the other
            whole = {"documents": None, "model": None, "quantization": None, **whole}
        elif "documents" in whole:
            whole = {"collection": None, **whole}
        whole = dict.fromkeys(_NO_USE.get(str(whole.get("mode")), ()), None) | whole
        return replace(self, **whole)


def parse_change(change: str) -> dict[str, Any]:
    """Fields of a `Configuration` out of `key=value` or a JSON object."""
    if change.lstrip().startswith("{"):
        try:
            found = json.loads(change)
        except ValueError as error:
            raise _wrong(f"key=value or a JSON object, got {shown(change, 200)}: {error}") from None
        return {_key(name): _typed(_key(name), value) for name, value in found.items()}
    name, separator, value = change.partition("=")
    if not separator:
        raise _wrong(f"key=value, such as mode=hybrid, or a JSON object, got {shown(change, 200)}")
    key = _key(name.strip())
    return {key: _typed(key, _parsed(key, value))}


def _wrong(expected: str) -> InvalidInput:
    return InvalidInput(f"against: expected {expected}", field="against")


def _key(name: str) -> str:
    known = [each.name for each in fields(Configuration)]
    word = name.replace("-", "_")
    if word in known:
        return word
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise _wrong(f"one of {', '.join(known)} before `=`, got {shown(name)}{hint}")


#: Types of the fields that are no texts; both of a union.
_TYPES: dict[str, tuple[type, ...]] = {
    "dimensions": (int,),
    "rerank_top": (int,),
    "exact": (bool,),
    "rerank": (bool, str),
    "where": (dict,),
}


def _parsed(key: str, value: str) -> Any:
    if value in ("", "none"):
        return None
    if key in _TYPES:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _typed(key: str, value: Any) -> Any:
    if value is None:
        return next(each.default for each in fields(Configuration) if each.name == key)
    wanted = _TYPES.get(key, (str,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        names = " or ".join(each.__name__ for each in wanted)
        raise _wrong(f"{key} to be {names}, got {shown(value)}")
    return value
