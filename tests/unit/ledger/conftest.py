"""One test, both ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gristmill.ledger import Keeping, Ledger, MemoryLedger
from unit.ledger.parcels import MakeLedger, redis_ledger


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.server)])
def make_ledger(request: pytest.FixtureRequest) -> Iterator[MakeLedger]:
    """Makes an empty ledger of either kind."""
    with ExitStack() as closing:

        def make(keeping: Keeping | None = None) -> Ledger:
            if request.param == "memory":
                return MemoryLedger(keeping=keeping)
            return closing.enter_context(redis_ledger(request.getfixturevalue("redis_url"), keeping))

        yield make


@pytest.fixture
def ledger(make_ledger: MakeLedger) -> Ledger:
    """An empty ledger of either kind."""
    return make_ledger()
