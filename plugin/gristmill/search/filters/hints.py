"""What is probably meant by operators that there are not."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from gristmill_schemas.validation import shown

#: What users of Mongo, Chroma, Pinecone, LlamaIndex, LangChain and SQL would write, and how it is said here.
_ELSEWHERE = {
    **dict.fromkeys((">", "after", "greater", "greater_than", "above", "over"), "'gt'"),
    **dict.fromkeys((">=", "ge", "min", "from", "since"), "'gte'"),
    **dict.fromkeys(("<", "before", "less", "less_than", "below", "under"), "'lt'"),
    **dict.fromkeys(("<=", "le", "max", "to", "until"), "'lte'"),
    **dict.fromkeys(("between", "range"), "'gte' and 'lte' together"),
    **dict.fromkeys(("eq", "==", "=", "match", "value", "is"), "the value itself, without an operator"),
    **dict.fromkeys(("ne", "neq", "!=", "<>", "is_not", "nin", "not_in", "must_not", "except", "none"), "'not'"),
    **dict.fromkeys(("in", "one_of", "any_of"), "a list, without an operator"),
    "contains": "'text' for words of a text, and for an item of a list the item itself",
    **dict.fromkeys(
        ("like", "ilike", "regex", "startswith", "text_match", "search", "fulltext"), "'text', which finds words"
    ),
    **dict.fromkeys(("exists", "exist", "is_missing"), "'missing', with True or False"),
    **dict.fromkeys(("is_null", "isnull"), "'null', with True or False"),
    **dict.fromkeys(("is_empty", "isempty"), "'empty', with True or False"),
    **dict.fromkeys(("size", "length", "len", "values_count"), "'count'"),
    **dict.fromkeys(("elemmatch", "elem_match", "where", "each"), "'nested'"),
    **dict.fromkeys(("near", "geo_radius", "geonear", "nearsphere", "within_radius", "distance", "circle"), "'radius'"),
    **dict.fromkeys(("geo_bounding_box", "bounding_box", "bbox", "geowithin"), "'box'"),
    "geo_polygon": "'polygon'",
    **dict.fromkeys(("and", "must", "contains_all", "all_of"), "'all'"),
    **dict.fromkeys(("or", "should", "contains_any"), "'any'"),
    "nor": "'not', with a list",
}
#: Keys that join filters elsewhere.
_JOINING = {"and": "all", "or": "any", "nor": "not", "should": "any", "must": "all", "must_not": "not", "filter": "all"}


def meant(path: str, name: object, known: Collection[str]) -> str:
    """The operator that is probably meant by an unknown one, as the end of a sentence."""
    if not isinstance(name, str):
        return ""
    plain_name = name.strip().lstrip("$").lower()
    nested = f"a nested key is written with a dot, as in {{{shown(f'{path}.{name}')}: …}}"
    if what := _said_here(plain_name, known):
        return f"; instead of {shown(name)} say {what}"
    for close in difflib.get_close_matches(plain_name, [*known, *_ELSEWHERE], n=1, cutoff=0.7):
        return f"; instead of {shown(name)} say {_said_here(close, known)}; {nested}"
    return f"; {shown(name)} is no operator, and {nested}"


def _said_here(name: str, known: Collection[str]) -> str | None:
    return f"{name!r}" if name in known else _ELSEWHERE.get(name)


def joined(name: str, value: Any) -> str:
    """What to say where a key may have been meant to join filters."""
    word = _JOINING.get(name.lstrip("$").lower()) or (name[1:] if name in ("$all", "$any", "$not") else None)
    if word is None or not isinstance(value, list | tuple | Mapping):
        return ""
    form = "a filter or a list of them" if word == "not" else "a list of filters"
    return f"; if {shown(name)} shall join filters, that is {word!r} with {form}"
