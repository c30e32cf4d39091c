"""Dead letters: documents that could not be stored, kept with their reason until somebody replays or drops them.

However many there are, they are read and handed over a few at a time: memory is that of some thirty documents.
"""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from gristmill.arguments import callback, identifier, integer, one_or_many_ids, tenant_name
from gristmill.habits import Group, answers_habits
from gristmill.ingest.intake import Intake
from gristmill.ingest.jobs import Job
from gristmill.ledger import UNBOUNDED, Ledger
from gristmill.ledger.costs import Costs
from gristmill.ledger.letters import is_of_tenant, pack_letter
from gristmill.ledger.reading import MAX_REFUSED, Evidence
from gristmill_schemas import (
    DeadGroup,
    DeadLetter,
    DeadSummary,
    Deletion,
    Document,
    Priority,
    RefusedMessage,
    Rejection,
)
from gristmill_schemas.errors import CollectionNotFound, InvalidInput

#: Letters dropped in one go.
_PAGE = 64
_REASON_CHARS = 200

#: Collection, job, error and tenant that letters must have, where they are given.
Choice = tuple[str | None, str | None, str | None, str | None]


@answers_habits
class DeadLetters(Group):
    """`client.dead`."""

    def __init__(self, ledger: Ledger, evidence: Evidence, intake: Intake, max_bytes: int) -> None:
        """`max_bytes`: the mark above which workers stop."""
        self._ledger = ledger
        self._evidence = evidence
        self._intake = intake
        self._max_bytes = max_bytes

    def summary(self, collection: str | None = None, *, tenant: str | None = None) -> DeadSummary:
        """How many died of what in which collection, the newest reason of each, and what they take of their mark.

        Costs a few look-ups per group, however many letters there are.

        Args:
            collection: groups of this collection only; the total and its share of the mark are everybody's.
            tenant: of this tenant's letters alone, the total and its share included. Every letter is read for that.
        """
        asked, *_, owner = _choice(collection, None, None, tenant)
        if owner is not None:
            return self._summary_of(asked, owner)
        load, counts = self._ledger.load(), self._ledger.dead_summary()
        groups = [self._group(error, name, n) for (error, name), n in counts.items() if asked in (None, name)]
        return DeadSummary(
            groups=tuple(sorted(groups, key=lambda each: (-each.letters, each.collection, each.error))),
            letters=load.dead_letters,
            bytes=load.dead_bytes,
            max_bytes=self._max_bytes,
        )

    def _summary_of(self, collection: str | None, tenant: str) -> DeadSummary:
        groups: dict[tuple[str, str], DeadGroup] = {}
        size = 0
        for letter in self._evidence.letters_until(self._ledger.now(), collection, tenant=tenant):
            size += Costs.letter(len(pack_letter(letter)))
            before = groups.get(key := (letter.collection, letter.error))
            groups[key] = DeadGroup(
                collection=letter.collection,
                error=letter.error,
                letters=1 if before is None else before.letters + 1,
                newest_died_at=letter.died_at,
                reason=letter.reason[:_REASON_CHARS],
            )
        return DeadSummary(
            groups=tuple(sorted(groups.values(), key=lambda each: (-each.letters, each.collection, each.error))),
            letters=sum(each.letters for each in groups.values()),
            bytes=size,
            max_bytes=self._max_bytes,
        )

    def _group(self, error: str, collection: str, letters: int) -> DeadGroup:
        group = DeadGroup(collection=collection, error=error, letters=letters)
        for newest in self._ledger.dead_letters(1, collection, error=error):
            return group.model_copy(update={"newest_died_at": newest.died_at, "reason": newest.reason[:_REASON_CHARS]})
        return group

    def list(
        self,
        collection: str | None = None,
        *,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        limit: int = 100,
    ) -> builtins.list[DeadLetter]:
        """The newest letters, newest first; `scroll` gives all of them.

        Args:
            collection: only this collection's.
            job: only those of this job, by its id.
            error: only those of this class of error, such as `EncodingFailed`.
            tenant: only this tenant's.
            limit: most letters.
        """
        return self._ledger.dead_letters(integer("limit", limit, 1), *_choice(collection, job, error, tenant))

    def scroll(
        self,
        collection: str | None = None,
        *,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> Iterator[DeadLetter]:
        """All letters that are there at this call, oldest first, a few in memory at a time.

        Letters may be replayed or dropped while it runs; those that come meanwhile are not among them.

        Args:
            collection: only this collection's.
            job: only those of this job, by its id.
            error: only those of this class of error.
            tenant: only this tenant's.
        """
        choice = _choice(collection, job, error, tenant)
        return self._while_open(self._evidence.letters_until(self._ledger.now(), *choice))

    def _while_open(self, letters: Iterator[DeadLetter]) -> Iterator[DeadLetter]:
        for letter in letters:
            yield letter
            _ = self._ledger.now  # a client that was closed meanwhile says so here

    def get(self, letter_id: str, *, tenant: str | None = None) -> DeadLetter:
        """One letter. Raises InvalidInput where there is none of this id, or this tenant has none."""
        letter = self._ledger.dead_letter(identifier("letter_id", letter_id))
        if letter is None or not is_of_tenant(letter, tenant_name(tenant)):
            raise InvalidInput(
                f"dead letter {letter_id!r} does not exist; `gristmill dead list` shows those that do",
                field="letter_id",
            )
        return letter

    def replay(
        self,
        letter_ids: str | Iterable[str] | None = None,
        *,
        collection: str | None = None,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> builtins.list[Job]:
        """Hand the documents over again, at their old versions; one job per collection, as urgent as that which its oldest
        letter comes from, where that is still remembered.

        A letter is dropped as soon as its document is accepted again. Killed in between, a document is replayed and its
        letter is still there: replaying it once more changes nothing. What dies again meanwhile is a new letter, and is
        left for the next time. The queue's high-water mark does not count here, as workers that stopped for the dead
        letters would never make room below it; what is replayed is in Redis's memory already.

        Args:
            letter_ids: one id or many; unknown ones raise InvalidInput before anything is handed over. Without ids, all
                that the others choose, or simply all.
            collection: only this collection's.
            job: only those of this job, by its id.
            error: only those of this class of error.
            tenant: only this tenant's.
            progress: called with the number of documents accepted so far.

        Returns:
            The jobs. Letters whose text was forgotten (GRISTMILL_DEAD_TEXT_TTL_S) cannot be replayed: they stay, and are
            among the rejections of their collection's job.

        Raises:
            InvalidInput: an argument is wrong, or both ids and a choice are given.
            CollectionNotFound: a collection is not there any more. Its letters stay, all others were handed over.
            BrokerUnavailable, BrokerRefused, StoreUnavailable, StoreRefused, ServerTooOld.
        """
        callback("progress", progress)
        jobs: builtins.list[Job] = []
        missing: CollectionNotFound | None = None
        done = 0
        for name, letters in self._by_collection(letter_ids, _choice(collection, job, error, tenant)):
            priority, letters = self._priority(letters)
            handover = _Handover(self._ledger, letters, progress, done)
            how = {"tenant": tenant_name(tenant), "priority": priority, **handover.how()}
            try:
                jobs.append(self._intake.take(name, handover.items(), **how))
            except CollectionNotFound as error_:
                missing = missing or error_
            done = handover.done
        if missing is not None:
            raise missing
        return jobs

    def _priority(self, letters: Iterator[DeadLetter]) -> tuple[Priority, Iterator[DeadLetter]]:
        """That of the job of the first letter, and all of them."""
        for first in letters:
            report = self._ledger.report(first.job_id)
            return Priority.NORMAL if report is None else report.priority, chain([first], letters)
        return Priority.NORMAL, letters

    def _by_collection(
        self, letter_ids: str | Iterable[str] | None, choice: Choice
    ) -> Iterable[tuple[str, Iterator[DeadLetter]]]:
        if letter_ids is None:
            return self._chosen(choice)
        _not_both(choice)
        named: dict[str, dict[str, None]] = {}
        for letter_id in one_or_many_ids("letter_ids", letter_ids):
            named.setdefault(self.get(letter_id, tenant=choice[-1]).collection, {})[letter_id] = None
        return [(name, self._read(ids, choice[-1])) for name, ids in named.items()]

    def _chosen(self, choice: Choice) -> Iterator[tuple[str, Iterator[DeadLetter]]]:
        collection, job_id, error, tenant = choice
        now = self._ledger.now()
        groups = self._ledger.dead_summary()
        for name in sorted({name for kind, name in groups if error in (None, kind) and collection in (None, name)}):
            letters = self._evidence.letters_until(now, name, job_id, error, tenant)
            # A job only if there is something to hand over.
            if (first := next(letters, None)) is not None:
                yield name, chain([first], letters)

    def _read(self, letter_ids: Iterable[str], tenant: str | None) -> Iterator[DeadLetter]:
        found = map(self._ledger.dead_letter, letter_ids)
        return (letter for letter in found if letter is not None and is_of_tenant(letter, tenant))

    def drop(
        self,
        letter_ids: str | Iterable[str] | None = None,
        *,
        collection: str | None = None,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Forget letters, and that their documents were accepted: audits miss them no more.

        Args:
            letter_ids: one id or many; unknown ones are passed over. Or, instead of ids, at least one of the next three;
                letters that come meanwhile stay.
            collection: only this collection's.
            job: only those of this job, by its id.
            error: only those of this class of error.
            tenant: only this tenant's.
            progress: called with the number of letters dropped so far.

        Returns:
            How many there were.

        Raises:
            InvalidInput: an argument is wrong, or neither ids nor a choice are given, or both.
            BrokerUnavailable, BrokerRefused.
        """
        callback("progress", progress)
        letters = self._to_drop(letter_ids, _choice(collection, job, error, tenant))
        dropped = 0
        while page := builtins.list(islice(letters, _PAGE)):
            for letter in page:
                self._withdraw(letter)
            dropped += self._ledger.drop_dead([letter.id for letter in page])
            if progress is not None:
                progress(dropped)
        return dropped

    def _to_drop(self, letter_ids: str | Iterable[str] | None, choice: Choice) -> Iterator[DeadLetter]:
        if letter_ids is not None:
            _not_both(choice)
            return self._read(one_or_many_ids("letter_ids", letter_ids), choice[-1])
        if not any(choice[:-1]):
            raise InvalidInput(
                "letter_ids: expected ids, or a collection, a job or an error whose letters are meant; got none of them",
                field="letter_ids",
            )
        return self._evidence.letters_until(self._ledger.now(), *choice)

    def _withdraw(self, letter: DeadLetter) -> None:
        document_id, tenant = letter.identity
        if letter.deletion is None and document_id is not None:
            key = letter.collection_key or letter.collection
            self._evidence.withdraw(key, document_id, tenant, letter.version)


class _Handover:
    """The letters of one collection on their way back into the queue; each is dropped once its document is accepted."""

    def __init__(
        self, ledger: Ledger, letters: Iterator[DeadLetter], progress: Callable[[int], None] | None, done: int
    ) -> None:
        """`done`: documents that were accepted before."""
        self._ledger = ledger
        self._letters = letters
        self._progress = progress
        self._before = self.done = done
        #: Items that were taken and not accepted yet, with the ids of their letters.
        self._under_way: deque[tuple[Document | Deletion, str]] = deque()

    def how(self) -> dict[str, Any]:
        """Arguments for `Producer.feed`."""
        return {"high_water": UNBOUNDED, "accepted": self._drop, "progress": self._tell}

    def items(self) -> Iterator[Document | Deletion | Rejection]:
        """What is handed over, and a rejection for what cannot be."""
        for position, letter in enumerate(self._letters):
            if (item := letter.item) is None:
                yield Rejection(position=position, id=letter.identity[0], reason=_stays(letter))
            else:
                again = item.model_copy(update={"version": letter.version})
                self._under_way.append((again, letter.id))
                yield again

    def _drop(self, accepted: Sequence[Document | Deletion]) -> None:
        self._ledger.drop_dead([self._letter_of(item) for item in accepted])
        self.done += len(accepted)

    def _letter_of(self, accepted: Document | Deletion) -> str:
        # They come in order. Those in between were refused on the way, and their letters stay.
        while True:
            item, letter_id = self._under_way.popleft()
            if item is accepted:
                return letter_id

    def _tell(self, accepted: int) -> None:
        if self._progress is not None:
            self._progress(self._before + accepted)


def way_back(letter: DeadLetter) -> str:
    """What to do once the cause of a death is removed."""
    if letter.item is not None:
        return f"`gristmill dead replay {letter.id}`"
    return f"enqueue it again, since of dead letter {letter.id} {_left(letter)}"


def _stays(letter: DeadLetter) -> str:
    """Why a letter cannot be replayed, and what to do instead."""
    died = f"{letter.error}: {letter.reason[:_REASON_CHARS]}"
    todo = f"enqueue the document again, then `gristmill dead drop {letter.id}`"
    return f"dead letter {letter.id} stays, {_left(letter)} ({died}): {todo}"


def _left(letter: DeadLetter) -> str:
    if letter.identity[0] is None:
        return "only the reason is left, since nobody could read the document"
    return "only id and reason are left, since its text was forgotten after GRISTMILL_DEAD_TEXT_TTL_S seconds"


def _choice(collection: str | None, job: str | None, error: str | None, tenant: str | None) -> Choice:
    given = {"collection": collection, "job": job, "error": error}
    name, job_id, kind = (None if value is None else identifier(field, value) for field, value in given.items())
    return name, job_id, kind, tenant_name(tenant)


def _not_both(choice: Choice) -> None:
    if any(choice[:-1]):
        raise InvalidInput(
            "letter_ids: expected either ids, or a collection, a job or an error whose letters are meant; got both",
            field="letter_ids",
        )


@answers_habits
class RefusedMessages(Group):
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
