"""Dead letters: documents that could not be stored, kept with their reason until somebody replays or drops them."""

from __future__ import annotations

import builtins
from collections.abc import Iterable

from gristmill.arguments import identifier, integer, one_or_many_ids
from gristmill.ingest.intake import Intake
from gristmill.ingest.jobs import Job
from gristmill.ledger import Ledger
from gristmill.ledger.reading import MAX_REFUSED, Evidence
from gristmill_schemas import DeadLetter, RefusedMessage
from gristmill_schemas.errors import InvalidInput


class DeadLetters:
    """`client.dead`."""

    def __init__(self, ledger: Ledger, evidence: Evidence, intake: Intake) -> None:
        self._ledger = ledger
        self._evidence = evidence
        self._intake = intake

    def list(
        self, collection: str | None = None, *, job: str | None = None, limit: int = 100
    ) -> builtins.list[DeadLetter]:
        """Newest first.

        Args:
            collection: only this collection's.
            job: only those of this job, by its id.
            limit: most letters.
        """
        name = None if collection is None else identifier("collection", collection)
        job_id = None if job is None else identifier("job", job)
        return self._ledger.dead_letters(integer("limit", limit, 1), name, job_id)

    def get(self, letter_id: str) -> DeadLetter:
        """One letter. Raises InvalidInput where there is none of this id."""
        letter = self._ledger.dead_letter(identifier("letter_id", letter_id))
        if letter is None:
            raise InvalidInput(
                f"dead letter {letter_id!r} does not exist; `gristmill dead list` shows those that do",
                field="letter_id",
            )
        return letter

    def replay(self, letter_ids: str | Iterable[str]) -> builtins.list[Job]:
        """Hand the documents over again, at their old versions; one job per collection.

        A letter is dropped once its document is accepted again. Killed in between, a document is replayed and its letter
        is still there: replaying it once more changes nothing.

        Args:
            letter_ids: one id or many; unknown ones raise InvalidInput before anything is handed over.
        """
        by_collection: dict[str, builtins.list[DeadLetter]] = {}
        for letter in [self.get(letter_id) for letter_id in one_or_many_ids("letter_ids", letter_ids)]:
            by_collection.setdefault(letter.collection, []).append(letter)
        return [job for name, letters in by_collection.items() if (job := self._replay(name, letters)) is not None]

    def _replay(self, collection: str, letters: builtins.list[DeadLetter]) -> Job | None:
        held = [(letter, item) for letter in letters if (item := letter.document or letter.deletion) is not None]
        if not held:
            return None
        job = self._intake.take(
            collection, [item.model_copy(update={"version": letter.version}) for letter, item in held]
        )
        rejected = {each.position for each in job.rejections}
        self._ledger.drop_dead([letter.id for position, (letter, _) in enumerate(held) if position not in rejected])
        return job

    def drop(self, letter_ids: str | Iterable[str]) -> int:
        """Forget letters, and that their documents were accepted: audits miss them no more.

        Args:
            letter_ids: one id or many; unknown ones are passed over.

        Returns:
            How many there were.
        """
        ids = builtins.list(one_or_many_ids("letter_ids", letter_ids))
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
        return self._evidence.refused(integer("limit", limit, 1))

    def get(self, message_id: str) -> RefusedMessage:
        """One message. Raises InvalidInput where there is none of this id."""
        wanted = identifier("message_id", message_id)
        found = next((message for message in self._evidence.refused(MAX_REFUSED) if message.id == wanted), None)
        if found is None:
            raise InvalidInput(
                f"refused message {message_id!r} does not exist; `gristmill dead refused` shows those that do",
                field="message_id",
            )
        return found

    def unreadable(self) -> builtins.list[str]:
        """Ids of parcels that were parked because something had overwritten their bytes."""
        return self._evidence.unreadable()

    def drop(self) -> int:
        """Forget the refused messages; returns how many there were."""
        return self._evidence.drop_refused()
