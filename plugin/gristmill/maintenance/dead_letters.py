"""Dead letters: documents that could not be stored, kept with their reason until somebody replays or drops them."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from itertools import chain

from gristmill.arguments import identifier, integer, one_or_many_ids
from gristmill.ingest.intake import Intake
from gristmill.ingest.jobs import Job
from gristmill.ledger import Ledger
from gristmill.ledger.reading import MAX_REFUSED, Evidence
from gristmill_schemas import DeadGroup, DeadLetter, Deletion, Document, RefusedMessage
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

    def summary(self, collection: str | None = None) -> builtins.list[DeadGroup]:
        """How many there are of each error in each collection, most first. Counted as they come: costs no look at any."""
        name = None if collection is None else identifier("collection", collection)
        groups = self._ledger.dead_summary().items()
        found = [DeadGroup(error=error, collection=of, letters=count) for (error, of), count in groups]
        return sorted((each for each in found if name in (None, each.collection)), key=lambda each: -each.letters)

    def replay(self, letter_ids: str | Iterable[str]) -> builtins.list[Job]:
        """Hand the documents over again, at their old versions; one job per collection.

        A letter is dropped once its document is accepted again. Killed in between, a document is replayed and its letter
        is still there: replaying it once more changes nothing.

        Args:
            letter_ids: one id or many; those of unknown letters, and of letters whose text has been forgotten, raise
                InvalidInput before anything is handed over.
        """
        by_collection: dict[str, builtins.list[str]] = {}
        for letter in map(self.get, one_or_many_ids("letter_ids", letter_ids)):
            if letter.document is None and letter.document_id is not None:
                raise InvalidInput(
                    f"dead letter {letter.id!r}: the text of {letter.document_id!r} has been forgotten "
                    "(GRISTMILL_DEAD_TEXT_TTL_S); enqueue the document anew",
                    field="letter_ids",
                    collection=letter.collection,
                )
            by_collection.setdefault(letter.collection, []).append(letter.id)
        jobs = (self._replay(name, self._read(ids)) for name, ids in by_collection.items())
        return [job for job in jobs if job is not None]

    def replay_all(self, collection: str | None = None) -> builtins.list[Job]:
        """Hand over again whatever can be, of one collection or of all; one job per collection. Streams, like `enqueue`."""
        names = sorted({group.collection for group in self.summary(collection)})
        jobs = (self._replay(name, self._older(name, self._ledger.now())) for name in names)
        return [job for job in jobs if job is not None]

    def _older(self, collection: str, than: float) -> Iterator[DeadLetter]:
        # What dies again while we read becomes a letter again, and would be read for ever.
        return (each for each in self._evidence.letters(collection) if each.enqueued_at < than)

    def _read(self, letter_ids: Iterable[str]) -> Iterator[DeadLetter]:
        return (letter for each in letter_ids if (letter := self._ledger.dead_letter(each)) is not None)

    def _replay(self, collection: str, letters: Iterable[DeadLetter]) -> Job | None:
        pairs = ((letter, item) for letter in letters if (item := letter.document or letter.deletion) is not None)
        if (first := next(pairs, None)) is None:
            return None
        taken: builtins.list[str] = []

        def items() -> Iterator[Document | Deletion]:
            for letter, item in chain([first], pairs):
                taken.append(letter.id)
                yield item.model_copy(update={"version": letter.version})

        job = self._intake.take(collection, items())
        rejected = {each.position for each in job.rejections}
        self._ledger.drop_dead(each for position, each in enumerate(taken) if position not in rejected)
        return job

    def drop(self, letter_ids: str | Iterable[str]) -> int:
        """Forget letters, and that their documents were accepted: audits miss them no more.

        Args:
            letter_ids: one id or many; unknown ones are passed over.

        Returns:
            How many there were.
        """
        return self._drop(self._read(one_or_many_ids("letter_ids", letter_ids)))

    def drop_all(self, collection: str | None = None) -> int:
        """Forget all letters, or all of one collection, as `drop` does."""
        return self._drop(self._evidence.letters(None if collection is None else identifier("collection", collection)))

    def _drop(self, letters: Iterable[DeadLetter]) -> int:
        def struck() -> Iterator[str]:
            for letter in letters:
                document = letter.document or letter
                document_id = letter.document.id if letter.document else letter.document_id
                if document_id is not None:
                    key = letter.collection_key or letter.collection
                    self._evidence.strike(key, document_id, document.tenant, letter.version)
                yield letter.id

        return self._ledger.drop_dead(struck())


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
