"""What the adapters' tests share: one mill per place, a collection per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gristmill import Client
from places import place_of


def pytest_configure(config: pytest.Config) -> None:
    """Markers that LangChain's suites use, of plugins that we run without."""
    for marker in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{marker}: of LangChain's suites")


@pytest.fixture
def anyio_backend() -> str:
    """Coroutines of other libraries' suites run on asyncio, which is what ours are for."""
    return "asyncio"


@pytest.fixture(scope="module", params=["local", "server"])
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    """The whole of Gristmill in this process, beside Qdrant's local mode or a real server."""
    with Client.embedded(**place_of(request), model="hash:16", reranker="overlap:64", threads=2) as client:
        yield client


@pytest.fixture
def empty(mill: Client, collection_name: str) -> Iterator[str]:
    """An empty collection."""
    mill.create_collection(collection_name)
    yield collection_name
    mill.collections.delete(collection_name)
