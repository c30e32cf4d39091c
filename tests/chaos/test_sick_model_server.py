"""A model server that comes and goes, or speaks nonsense for a while, buries nobody but the text that it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from chaos.mill import Conclude, MakeMill, send_off, texts_of
from chaos.verdict import add_up, buried, judge, meaningless, settled
from gristmill import Client
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import ModelServer
from services.model_server import HTML_PAGE, OVERLOADED, REFUSED, WRONG_KEY, Answer, Fault, always
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
TRUTH = HashEncoder(16)
#: How long the server is away, unless a document dies of it sooner.
AWAY_S, LONG_AWAY_S = 3.0, 30.0


def encode(texts: Sequence[str]) -> np.ndarray:
    return TRUTH.encode(TRUTH.tokenize(texts))


def refuses_one_text(texts: Sequence[str]) -> Answer | None:
    """As a server does that finds one text too long: the whole request is refused."""
    return REFUSED if any("POISON-400" in text for text in texts) else None


def embeddings(rows: Sequence[tuple[int, Sequence[float]]]) -> Answer:
    data = [{"index": index, "embedding": list(row)} for index, row in rows]
    return Answer(200, json.dumps({"data": data}).encode())


def one_short(texts: Sequence[str]) -> Answer:
    return embeddings([(n, row.tolist()) for n, row in enumerate(encode(texts[1:]))])


def another_size(texts: Sequence[str]) -> Answer:
    return embeddings([(n, row.tolist()[:8]) for n, row in enumerate(encode(texts))])


def one_index_for_all(texts: Sequence[str]) -> Answer:
    return embeddings([(0, row.tolist()) for row in encode(texts)])


MakeServer = Callable[..., ModelServer]


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    made: list[ModelServer] = []

    def make(*, floats: bool) -> ModelServer:
        made.append(ModelServer(encode, floats=floats).come_back())
        made[-1].fault = refuses_one_text
        return made[-1]

    yield make
    for server in made:
        server.leave()


@pytest.mark.parametrize(
    ("faults", "floats", "away_s"),
    [
        pytest.param([always(OVERLOADED)], False, AWAY_S, id="503"),
        pytest.param([None], False, AWAY_S, id="refused-connections"),
        pytest.param([always(HTML_PAGE), always(WRONG_KEY)], True, AWAY_S / 2, id="html-then-401"),
        *[
            pytest.param([fault], False, LONG_AWAY_S, id=name, marks=pytest.mark.soak)
            for name, fault in {
                "refused-connections-long": None,
                "503-long": always(Answer(503)),
                "html-long": always(HTML_PAGE),
                "401-long": always(WRONG_KEY),
                "503-date": always(Answer(503, headers={"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"})),
                "403": always(Answer(403)),
                "404": always(Answer(404)),
                "308": always(Answer(308, headers={"Location": "/moved"})),
                "413": always(Answer(413)),
                "one-short": one_short,
                "another-size": another_size,
                "one-index-for-all": one_index_for_all,
            }.items()
        ],
    ],
)
def test_a_model_server_that_comes_and_goes_costs_no_document(
    faults: list[Fault | None],
    floats: bool,
    away_s: float,
    mill: MakeMill,
    conclude: Conclude,
    make_server: MakeServer,
) -> None:
    """A fault None closes the port. One document of the job is refused by the healthy server too, and dies alone."""
    server, started = make_server(floats=floats), time.monotonic()
    made = mill(workers=2, model=server.url)
    texts = texts_of(640, {137: "POISON-400"})
    with made.running(), made.client() as client:
        client.create_collection("c", server.model, wait_s=60)
        jobs = [send_off(client, texts_of(64))]
        settled(client, jobs, deadline_s=30)
        break_down(server, faults[0])
        # What travels alone is blamed soonest.
        jobs += [send_off(client, part) for part in (texts_of(1, first=640), texts)]
        for fault in faults:
            break_down(server, fault)
            outlast(client, away_s)
        assert not server.listening or server.failed, "nobody noticed"
        recover(server)
        reports = settled(client, jobs, deadline_s=60)
        verdict = judge(client, "c", texts | texts_of(1, first=640), bad={"137"})
        conclude(add_up(verdict, reports, made.done, started))
        assert set(buried(client)) == {"137"}
        assert not meaningless(client, "c", TRUTH)
        client.collections.delete("c")


def break_down(server: ModelServer, fault: Fault | None) -> None:
    if fault is None:
        server.leave()
    server.fault = fault


def recover(server: ModelServer) -> None:
    server.fault = refuses_one_text
    if not server.listening:
        server.come_back()


def outlast(client: Client, seconds: float) -> None:
    """Let it go on for so long, or until a document has died of it."""
    until = time.monotonic() + seconds
    eventually(lambda: client.dead.list(limit=1) or time.monotonic() > until, seconds + 10)
