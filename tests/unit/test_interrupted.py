"""Ctrl-C at the least convenient moments of an `enqueue`."""

from collections.abc import Iterator
from typing import Any

import pytest

from gristmill import Client, Document, JobState
from gristmill.ledger import Ticket


def test_a_job_ends_though_the_answer_to_its_opening_never_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client.embedded(model="hash:8") as client:
        client.create_collection("c")
        opened = client._parts.ledger.open_job

        def interrupted(*what: Any, **how: Any) -> Ticket:
            opened(*what, **how)
            raise KeyboardInterrupt

        monkeypatch.setattr(client._parts.ledger, "open_job", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.enqueue("c", [Document(id="1", text="text")])
        assert [report.state for report in client.jobs.list()] == [JobState.DONE]


def test_what_was_accepted_before_an_interruption_is_stored_and_the_job_ends() -> None:
    def documents() -> Iterator[Document]:
        for number in range(100):
            yield Document(id=str(number), text=f"text {number}")
        raise KeyboardInterrupt

    with Client.embedded(model="hash:8") as client:
        client.create_collection("c")
        with pytest.raises(KeyboardInterrupt):
            client.enqueue("c", documents())
        report = client.jobs.get(client.jobs.list()[0].job_id).wait(60)
        assert (report.state, report.stored) == (JobState.DONE, 64), "whole parcels only: the rest was never accepted"
