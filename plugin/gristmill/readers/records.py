"""One record (JSON object, row) in, a document or a rejection out.

    {"id": 7, "text": "…", "lang": "zh", "metadata": {"page": 3}}   →   Document(id="7", text="…",
                                                                             metadata={"lang": "zh", "page": 3})

`tenant` and `version` are the document's own; every other field that is not id, text or metadata joins the metadata.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gristmill.readers.base import Item, Options
from gristmill.readers.files.source import Source
from gristmill_schemas import Document
from gristmill_schemas.validation import clean_text, explain


def to_document(record: Mapping[str, Any], source: Source, position: int, options: Options) -> Item:
    """Build the document, or say why not.

    Args:
        record: field names and plain values.
        source: the file it came from.
        position: its line or row there, from 1.
        options: which fields are the id and the text.
    """
    own = {options.id_field, options.text_field, "metadata", "tenant", "version"}
    text = record.get(options.text_field)
    given = record.get(options.id_field)
    id = derived_id(source, text) if given is None and isinstance(text, str) else given
    try:
        if text is None:
            raise ValueError(_no_text(record, options))
        metadata = _merge(record.get("metadata"), {name: value for name, value in record.items() if name not in own})
        fields = {"id": id, "text": text, "metadata": metadata, "tenant": record.get("tenant")}
        return Document.model_validate({**fields, "version": record.get("version")})
    except ValidationError as error:
        return source.reject(position, explain(error), shown_id(id))
    except ValueError as error:
        return source.reject(position, str(error), shown_id(given))


def derived_id(source: Source, text: str) -> str:
    """The file's key and a hash of the text: the same whenever this file is read again, whatever else changed in it."""
    return source.key + source.anchor(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16])


def plain(value: Any) -> Any:
    """Times of Parquet and YAML as text and NaN as null; the rest is converted with the document."""
    match value:
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case float() if value != value:
            return None
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def _merge(metadata: Any, loose: dict[str, Any]) -> dict[str, Any]:
    if metadata is None:
        return loose
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata: expected a JSON object, got {type(metadata).__name__}")
    if twice := sorted(metadata.keys() & loose.keys()):
        raise ValueError(f"metadata: expected one value of {twice[0]!r}, got two: at top level and in `metadata`")
    return {**loose, **metadata}


def _no_text(record: Mapping[str, Any], options: Options) -> str:
    names = ", ".join(map(repr, list(record)[:8])) or "no fields"
    found = "null" if options.text_field in record else f"only {names}"
    return f"{options.text_field}: expected the text to embed in this field, got {found}; --text-field names another"


def shown_id(id: Any) -> str | None:
    """An id as far as a rejection can show it."""
    try:
        return clean_text(str(id))[:100] if isinstance(id, str | int) and not isinstance(id, bool) else None
    except ValueError:
        return None
