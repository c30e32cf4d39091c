"""One test, both ledgers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gristmill.ledger import Ledger, MemoryLedger
from unit.ledger.parcels import redis_ledger


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.server)])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """An empty ledger of either kind."""
    made = MemoryLedger() if request.param == "memory" else redis_ledger(request.getfixturevalue("redis_url"))
    yield made
    made.close()
