"""What a tenant's client has beside its own calls."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable

from gristmill.habits import Group, answers_habits
from gristmill.ingest.jobs import Jobs, TenantJob
from gristmill.maintenance.dead_letters import DeadLetters
from gristmill.search.instructions import InstructionGroup
from gristmill.tenants.confining import Confined, confined, confined_job, passed


@answers_habits
class TenantJobs(Confined[Jobs], Group):
    """`client.jobs` of a tenant: jobs whose documents are all its own."""

    list = confined(Jobs.list)
    get = confined_job(Jobs.get)


@answers_habits
class TenantDeadLetters(Confined[DeadLetters], Group):
    """`client.dead` of a tenant: letters of its own documents."""

    list = confined(DeadLetters.list)
    get = confined(DeadLetters.get)
    scroll = confined(DeadLetters.scroll)
    summary = confined(DeadLetters.summary)
    drop = confined(DeadLetters.drop)

    def replay(
        self,
        letter_ids: str | Iterable[str] | None = None,
        *,
        collection: str | None = None,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> builtins.list[TenantJob]:
        """See `DeadLetters.replay`."""
        chosen = {"collection": collection, "job": job, "error": error, "tenant": tenant}
        jobs = self._confine(DeadLetters.replay, letter_ids, **chosen, progress=progress)
        return [TenantJob(job) for job in jobs]


@answers_habits
class TenantInstructions(Confined[InstructionGroup], Group):
    """`client.instructions` of a tenant: to be read. They are the collection's, so who looks after it registers them."""

    list = passed(InstructionGroup.list)
    show = passed(InstructionGroup.show)
    get = passed(InstructionGroup.get)
    presets = passed(InstructionGroup.presets)
