"""One server for all tests that only ask: a stand-in, a tiny real model and a stand-in reranker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill_worker.encoder import Encoder, open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.reranker import open_reranker
from models import tiny_bert
from serving import Serving, served


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A BERT with E5's prefixes, a window of 256 tokens and 64 dimensions."""
    folder: Path = tiny_bert(tmp_path_factory.mktemp("models") / "tiny")
    return open_encoder(str(folder), dtype="float32", budget_tokens=2048)


@pytest.fixture(scope="session")
def serving(tiny: Encoder) -> Iterator[Serving]:
    """A server that is never stopped, and whose limits are not reached."""
    with served([HashEncoder(16), tiny], [open_reranker("overlap:64")]) as running:
        yield running
