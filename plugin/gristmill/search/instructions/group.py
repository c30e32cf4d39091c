"""`client.instructions`: sentences that say what a search is for, by name and version."""

from __future__ import annotations

import builtins
from collections.abc import Callable

from gristmill.arguments import identifier, text
from gristmill.habits import Group, answers_habits
from gristmill.search.instructions.presets import PRESETS, Preset
from gristmill.search.instructions.resolving import find_registered
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, Instruction


@answers_habits
class InstructionGroup(Group):
    """`client.instructions`: registered with a collection and kept with it in Qdrant."""

    def __init__(self, collections: Collections, changed: Callable[[CollectionSpec], None]) -> None:
        self._collections = collections
        self._changed = changed

    def register(self, collection: str, name: str, text: str) -> Instruction:
        """Register a sentence as a new version of a name; versions that are there stay as they are, for ever.

        Searches by the name alone mean the newest version from then on, in other processes within ten seconds. However many
        register at the same time, each gets a version of its own. Where the newest version has this very text already, it is
        returned, so that an application may register at each start.

        Args:
            collection: an existing collection.
            name: up to 64 of a-z, 0-9, `_` and `-`, such as `faq`.
            text: what a search is for, up to 2,000 characters; `client.instructions.presets()` has examples.

        Raises:
            InvalidInput: an argument is wrong, or the collection has 500 versions already.
            CollectionConflict: too many register under this name at this moment.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        spec = self._collections.get(identifier("collection", collection))
        made = self._collections.register(spec, Instruction(name=name, text=text))
        self._changed(spec)
        return made

    def list(self, collection: str) -> builtins.list[Instruction]:
        """Every registered version, retired ones too, by name and version."""
        return builtins.list(self._collections.get(identifier("collection", collection)).instructions)

    def show(self, collection: str, name: str) -> Instruction:
        """One version: `faq` is the newest that is not retired, `faq@2` that one.

        Raises:
            InvalidInput: there is none; the message lists those that are registered.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        word = _word(name)
        return find_registered(self._collections.get(identifier("collection", collection)), word)

    def get(self, collection: str, name: str) -> Instruction:
        """As `show`: every group has a `get`."""
        return self.show(collection, name)

    def retire(self, collection: str, name: str) -> builtins.list[Instruction]:
        """Retire one version (`faq@2`) or all versions of a name (`faq`).

        The name alone does not mean a retired version any more. `faq@2` goes on to work, with a warning once, so that what
        was searched with it can be searched again; its number is never given to another text.

        Returns:
            What is retired now.

        Raises:
            InvalidInput: there is none; the message lists those that are registered.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        word = _word(name)
        spec = self._collections.get(identifier("collection", collection))
        chosen = [each for each in spec.instructions if word in (each.name, each.label)]
        retired = self._collections.retire(spec, chosen or [find_registered(spec, word)])
        self._changed(spec)
        return retired

    def presets(self) -> builtins.list[Preset]:
        """Instructions that ship, in English and Chinese, each with a note: `instruction="preset:faq"`."""
        return builtins.list(PRESETS)


def _word(name: object) -> str:
    return text("name", name, 512).strip()
