"""LangChain's own suites for vector stores and embeddings, sync and async, on local mode and on a real server.

None of their tests is left out. Two things are said in another way than the suites' own documents have it: their fake
embeddings are not used, since Gristmill's workers embed (here by hashes, under which a text finds itself first, as under
theirs), and `init_from_env_params` stays empty: settings come from `GRISTMILL_*` variables when the client is opened, and
are no attributes of the embeddings.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from gristmill import Client
from gristmill.adapters.langchain import GristmillEmbeddings, GristmillVectorStore

pytestmark = pytest.mark.anyio


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, mill: Client, empty: str) -> GristmillVectorStore:
        return GristmillVectorStore(mill, empty)


class _OfTheMill:
    @property
    def embeddings_class(self) -> type[GristmillEmbeddings]:
        return GristmillEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"client": self._client, "model": "hash:16"}

    @pytest.fixture(autouse=True)
    def _opened(self, mill: Client) -> None:
        self._client = mill


class TestEmbeddings(_OfTheMill, EmbeddingsIntegrationTests):
    pass


class TestEmbeddingsUnit(_OfTheMill, EmbeddingsUnitTests):
    pass
