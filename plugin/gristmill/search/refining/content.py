"""What of a document comes with a hit: some of its metadata, with or without the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qdrant_client import models

from gristmill.arguments import one_or_many
from gristmill.store.indexes import field_path
from gristmill_schemas import CollectionSpec
from gristmill_schemas.validation import SYSTEM_KEY


@dataclass(frozen=True, slots=True)
class Content:
    """Paths of the metadata, None for all of it; and the text, or not."""

    fields: tuple[str, ...] | None = None
    text: bool = True

    def selector(self, spec: CollectionSpec) -> bool | models.PayloadSelector:
        """In Qdrant's words; our own part always comes along."""
        if self.fields is not None:
            text = [spec.text_key] if self.text else []
            return models.PayloadSelectorInclude(include=[SYSTEM_KEY, *text, *self.fields])
        return True if self.text else models.PayloadSelectorExclude(exclude=[spec.text_key])


def asked_content(fields: Iterable[str] | None, text: bool) -> Content:
    """What was asked for, checked."""
    if fields is None:
        return Content(None, text)
    many = one_or_many("fields", fields, str, "names of metadata fields, such as ['title', 'author.name']")
    paths = [field_path(f"fields[{position}]", each) for position, each in enumerate(many)]
    return Content(tuple(dict.fromkeys(paths)), text)
