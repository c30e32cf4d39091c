"""Dead letters: documents that could not be stored, kept with their reason until somebody replays or drops them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any

from gristmill.ingest.jobs import Job
from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill_schemas import DeadLetter, RefusedMessage
from gristmill_schemas.errors import InvalidInput


class DeadLetters:
    """`client.dead`."""

    def __init__(self, ledger: Ledger, evidence: Evidence, feed: Callable[[str, Iterable[Any]], Job]) -> None:
        self._ledger = ledger
        self._evidence = evidence
        self._feed = feed

    def list(self, collection: str | None = None, limit: int = 100) -> builtins.list[DeadLetter]:
        """Newest first."""
        return self._ledger.dead_letters(limit, collection)

    def get(self, letter_id: str) -> DeadLetter:
        """One letter. Raises InvalidInput where there is none of this id."""
        letter = self._ledger.dead_letter(letter_id)
        if letter is None:
            raise InvalidInput(f"dead letter {letter_id!r} does not exist; `gristmill dead list` shows those that do")
        return letter

    def replay(self, letter_ids: Iterable[str]) -> builtins.list[Job]:
        """Hand the documents over again, at their old versions; one job per collection.

        A letter is dropped once its document is accepted again. Killed in between, a document is replayed and its letter
        is still there: replaying it once more changes nothing.
        """
        by_collection: dict[str, builtins.list[DeadLetter]] = {}
        for letter in [self.get(letter_id) for letter_id in letter_ids]:
            by_collection.setdefault(letter.collection, []).append(letter)
        return [job for name, letters in by_collection.items() for job in self._replay(name, letters)]

    def _replay(self, collection: str, letters: builtins.list[DeadLetter]) -> Iterable[Job]:
        for kind in ("document", "deletion"):
            chosen = [letter for letter in letters if getattr(letter, kind) is not None]
            if chosen:
                items = [getattr(letter, kind).model_copy(update={"version": letter.version}) for letter in chosen]
                job = self._feed(collection, items)
                self._ledger.drop_dead([letter.id for letter in chosen])
                yield job

    def drop(self, letter_ids: Iterable[str]) -> int:
        """Forget letters, and that their documents were accepted: audits miss them no more. Returns how many."""
        ids = builtins.list(letter_ids)
        for letter_id in ids:
            letter = self._ledger.dead_letter(letter_id)
            if letter is not None and letter.document is not None:
                document = letter.document
                key = letter.collection_key or letter.collection
                self._evidence.strike(key, document.id, document.tenant, letter.version)
        return self._ledger.drop_dead(ids)


class RefusedMessages:
    """`client.refused`: what lay in the queue and did not speak of work. Never executed; the newest 1,000 are kept."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def list(self, limit: int = 100) -> builtins.list[RefusedMessage]:
        """Newest first."""
        return self._evidence.refused(limit)

    def unreadable(self) -> builtins.list[str]:
        """Ids of parcels that were parked because something had overwritten their bytes."""
        return self._evidence.unreadable()

    def drop(self) -> int:
        """Forget the refused messages; returns how many there were."""
        return self._evidence.drop_refused()
