"""Sizes and rates of an estimate: pure sums, and the ledger's own costs."""

from collections.abc import Sequence

import pytest

from gristmill.ingest.estimating.forecast import Forecast
from gristmill.ingest.estimating.rates import Sample, known_rate
from gristmill.ingest.estimating.sizes import Kept, QueueSize, StoreSize
from gristmill.ingest.packing import group
from gristmill.ingest.producer import Producer
from gristmill.ledger import HighWater, MemoryLedger
from gristmill_schemas import CollectionSpec, Document, Lens, Outcome, Pooling, RateSource, VectorSpace

SPACE = VectorSpace(model="m", model_digest="d" * 32, pooling=Pooling.MEAN, dimensions=384, max_tokens=512)
SPEC = CollectionSpec(name="c", space=SPACE)


class Silent:
    """A dispatcher whose messages nobody hears."""

    def publish(self, model_digest: str, count: int = 1) -> None:
        return

    def close(self) -> None:
        return


def texts(count: int) -> list[Document]:
    return [
        Document(id=f"document-{n}", text=f"磨坊 {n} " + "grain and flour " * (n % 50), metadata={"n": n})
        for n in range(count)
    ]


def stored(document: Document, chunks: int = 1, tokens: int = 10) -> Forecast:
    length = len(document.text)
    return Forecast(
        document,
        Outcome.STORED,
        tokens,
        chunks,
        written=True,
        stored_chars=length,
        inputs=lambda: [(document.text, tokens)],
    )


def test_redis_would_take_what_the_ledger_counts_once_all_of_it_waits() -> None:
    ledger = MemoryLedger()
    documents = texts(1_000)
    expected = QueueSize(SPEC, ledger.now(), roster=True)
    for batch in group(documents):
        expected.add(batch)
    ticket = ledger.open_job("c")
    Producer(ledger, Silent(), HighWater(10**6, 10**9)).feed(SPEC, ticket, documents)
    assert ledger.load().bytes == pytest.approx(expected.total, rel=0.01)


@pytest.mark.parametrize(
    ("spec", "vectors"),
    [
        (SPEC, 384 * 4),
        (SPEC.model_copy(update={"replicas": 2}), 384 * 4 * 2),
        (SPEC.model_copy(update={"lenses": (Lens(name="l", document="For the lawyer"),)}), 384 * 4 * 2),
    ],
)
def test_each_point_costs_its_vectors_under_every_lens_and_in_every_copy(spec: CollectionSpec, vectors: int) -> None:
    size = StoreSize(spec, Kept())
    size.add(stored(texts(1)[0], chunks=3))
    assert size.total().vectors == 3 * vectors
    assert size.total().keywords == 0


def test_a_quantized_form_lies_beside_the_vectors() -> None:
    whole, both = StoreSize(SPEC, Kept()), StoreSize(SPEC, Kept(number_bytes=5.0))
    for size in (whole, both):
        size.add(stored(texts(1)[0]))
    assert both.total().vectors - whole.total().vectors == 384


def test_no_rate_is_known_where_nobody_has_worked_yet() -> None:
    assert known_rate(MemoryLedger(), SPEC, None) is None


def test_what_living_workers_say_counts_for_those_who_have_said_nothing_yet() -> None:
    ledger = MemoryLedger()
    for worker, said in {"a": 100.0, "b": 300.0, "c": None}.items():
        engine = {"model_digest": SPACE.model_digest, "tokens_per_s": said}
        ledger.heartbeat(worker, {"engines": [engine]}, 60)
    rate = known_rate(ledger, SPEC, None)
    assert rate is not None
    assert (rate.tokens_per_s, rate.source) == (600.0, RateSource.WORKERS)
    given = known_rate(ledger, SPEC, 5.0)
    assert given is not None
    assert (given.tokens_per_s, given.source) == (5.0, RateSource.GIVEN)


class Worker:
    """Encodes at a known pace, by a clock that nobody waits for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fixed_s: float, token_s: float) -> None:
        self._fixed_s, self._token_s = fixed_s, token_s
        self.now, self.asked = 0.0, list[Sequence[str]]()
        monkeypatch.setattr("gristmill.ingest.estimating.rates.time.monotonic", lambda: self.now)

    def encode(self, space: VectorSpace, inputs: Sequence[str]) -> None:
        self.asked.append(inputs)
        self.now += self._fixed_s + self._token_s * 10 * len(inputs)


def drawn(count: int) -> Sample:
    sample = Sample()
    for document in texts(count):
        sample.add(stored(document))
    return sample


def test_a_sample_is_drawn_from_all_of_the_stream_and_encoded_in_requests_that_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch, 0.05, 0.0001)
    rate = drawn(3_000).measure(worker.encode, SPACE, workers=1)
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(10_000)
    assert rate.source is RateSource.MEASURED
    assert [len(each) for each in worker.asked[:5]] == [1, 2, 4, 8, 16]
    assert max(int(text.split()[1]) for each in worker.asked for text in each) > 2_500
    assert 8 <= worker.now < 10, "seconds"


def test_each_of_several_workers_is_taken_to_be_as_fast_as_the_one_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch, 0.05, 0.00001)
    rate = drawn(3_000).measure(worker.encode, SPACE, workers=3)
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(300_000)
    assert max(map(len, worker.asked)) == 256, "one request, which no two workers share"
    assert worker.now < 2, "enough of them"


def test_few_texts_are_enough_and_none_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, 0.2, 0.001)
    rate = drawn(7).measure(worker.encode, SPACE, workers=1)
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(1_000)
    assert [len(each) for each in worker.asked] == [1, 2, 4]


def test_a_model_that_takes_longer_than_a_sample_may_take_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, 0.0, 2.0)
    rate = drawn(7).measure(worker.encode, SPACE, workers=1)
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(0.5)
    assert len(worker.asked) == 1


def test_an_empty_sample_measures_nothing() -> None:
    assert Sample().measure(lambda *_: None, SPACE, workers=1) is None
