"""`client.webhooks`: what was to be told of jobs' ends and is not delivered yet; a job's report says whether it is."""

from __future__ import annotations

import builtins
from collections.abc import Iterable

from gristmill.arguments import identifier, integer, one_or_many_ids, refuse
from gristmill.habits import Group, answers_habits
from gristmill.ledger import Ledger
from gristmill_schemas import Webhook, WebhookState
from gristmill_schemas.errors import InvalidInput

#: Read for `resend()` without ids, and for one webhook.
_ALL = 2**31


@answers_habits
class WebhookGroup(Group):
    """`client.webhooks`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def list(
        self, limit: int = 50, *, state: WebhookState | str | None = None, job: str | None = None
    ) -> builtins.list[Webhook]:
        """Webhooks that are not delivered, newest first.

        Args:
            limit: at most.
            state: `waiting` or `failed`; None gives both.
            job: only this job's.
        """
        job_id = None if job is None else identifier("job", job)
        return self._ledger.webhooks.list(integer("limit", limit, 1), _state(state), job_id)

    def get(self, webhook_id: str) -> Webhook:
        """One webhook, by its id. Raises InvalidInput where it is delivered, forgotten or none."""
        asked = identifier("webhook_id", webhook_id)
        found = self._ledger.webhooks.list(_ALL, None, asked.partition(".")[0])
        for each in found:
            if each.id == asked:
                return each
        raise InvalidInput(
            f"webhook_id: {asked!r} is not among those that are not delivered, which `gristmill webhooks list` shows",
            field="webhook_id",
        )

    def resend(self, webhook_ids: str | Iterable[str] | None = None) -> int:
        """Send webhooks now, with all their attempts before them.

        Args:
            webhook_ids: which; None means every one that was given up.

        Returns:
            How many of them there are.
        """
        if webhook_ids is None:
            given_up = self._ledger.webhooks.list(_ALL, WebhookState.FAILED)
            return self._ledger.webhooks.resend([each.id for each in given_up])
        return self._ledger.webhooks.resend(builtins.list(one_or_many_ids("webhook_ids", webhook_ids)))

    def drop(self, webhook_ids: str | Iterable[str]) -> int:
        """Forget webhooks, so that they are not sent any more; returns how many there were."""
        return self._ledger.webhooks.drop(builtins.list(one_or_many_ids("webhook_ids", webhook_ids)))


def _state(value: WebhookState | str | None) -> WebhookState | None:
    try:
        return None if value is None else WebhookState(value)
    except ValueError:
        raise refuse("state", "`waiting` or `failed`", value) from None
