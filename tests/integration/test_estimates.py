"""An estimate against the job: every counter of the one is that of the other, and nothing is written."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill import (
    AsyncClient,
    Chunking,
    Client,
    CollectionConflict,
    CollectionNotFound,
    Document,
    InvalidInput,
    JobReport,
    NoWorker,
    RateSource,
    Rejection,
    WaitTimeout,
)
from gristmill.cli.ingest.counts import Counts, CountsCache
from gristmill.cli.jobs import watch_job
from gristmill.ingest.estimating.estimator import Estimator
from gristmill.readers import read
from gristmill_schemas.outlook import Estimate
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.submission import Lane

Run = Callable[..., tuple[int, str, str]]
#: Counters that both have.
COUNTERS = ("accepted", "stored", "skipped", "superseded", "dead", "rejected", "tokens", "chunks", "truncated")
LENSES = {"legal": "Given a contract, find what binds", "user": "Given a complaint, find what helps"}
SETTINGS: dict[str, dict[str, Any]] = {
    "chunks": {"chunking": {"size": 16, "overlap": 4}},
    "truncated": {"chunking": {"long_texts": "truncate"}},
    "refused": {"chunking": {"long_texts": "refuse"}},
    "lenses": {"chunking": {"size": 32}, "lenses": LENSES},
    "headings": {"chunking": {"by": "markdown", "context": "headings", "size": 32}},
    "titles": {"chunking": {"context": "title", "size": 32}},
}


def documents() -> list[Any]:
    """English and Chinese, short and beyond the window of 512, ids that come twice, what is no document."""
    texts = [
        "short",
        "磨坊在河边，水车日夜不停。" * 9,
        "word " * 900,
        "# Guide\n\nfirst\n\n## Install\n\n" + "step by step. " * 40,
    ]
    sound = [
        Document(id=f"d{n}", text=f"{text} {n}", metadata={"title": "Mill"})
        for n in range(6)
        for text in texts[n % 4 :]
    ]
    unique = list({each.id: each for each in sound}.values())
    return [
        *unique,
        Document(id="d0", text="again"),
        {"id": "blank", "text": " "},
        {"id": "none"},
        unique[1].model_dump(),
    ]


@pytest.fixture(scope="module")
def mill() -> Iterator[Client]:
    with Client.embedded(model="hash:16", threads=2) as client:
        yield client


def same(estimate: Estimate, report: JobReport) -> None:
    assert {name: getattr(estimate, name) for name in COUNTERS} == {name: getattr(report, name) for name in COUNTERS}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_counters_are_those_of_the_job_before_and_after_the_collection_is_there(mill: Client, name: str) -> None:
    settings = SETTINGS[name]
    before = mill.estimate(f"e-{name}", documents(), model="hash:16", **settings)
    assert not before.exists
    with pytest.raises(CollectionNotFound):
        mill.collections.get(f"e-{name}")
    mill.create_collection(f"e-{name}", "hash:16", **settings)
    there = mill.estimate(f"e-{name}", documents())
    report = mill.enqueue(f"e-{name}", documents()).wait()
    same(before, report)
    same(there, report)
    assert (there.duplicates, there.rejected) == (2, 4)
    assert there.tokens > 0


def test_what_is_there_already_is_told_from_what_is_new(client: Client, collection_name: str) -> None:
    first = [Document(id=f"d{n}", text=f"text {n} " * 20, version=5) for n in range(8)]
    client.enqueue(collection_name, first).wait()
    client.delete(collection_name, "d7", version=9).wait()
    again = [
        first[0],
        first[1].model_copy(update={"version": 4}),
        first[2].model_copy(update={"metadata": {"k": 1}, "version": 6}),
        first[3].model_copy(update={"text": "another text", "version": 6}),
        first[4].model_copy(update={"version": 7}),
        first[7].model_copy(update={"version": 8}),
        Document(id="new", text="a new one"),
    ]
    estimate = client.estimate(collection_name, again)
    report = client.enqueue(collection_name, again).wait()
    same(estimate, report)
    assert (estimate.stored, estimate.skipped, estimate.superseded) == (3, 2, 2)


def test_nothing_is_written(mill: Client) -> None:
    mill.create_collection("untouched", "hash:16")
    ledger = mill._parts.ledger
    before = (ledger.load(), ledger.jobs(100), mill.models.list(), mill.count("untouched"), mill.collections.list())
    mill.estimate("untouched", documents())
    mill.estimate("not-there", documents(), model="hash:16")
    after = (ledger.load(), ledger.jobs(100), mill.models.list(), mill.count("untouched"), mill.collections.list())
    assert after == before


def test_texts_that_come_again_are_counted_since_they_cost_the_same_again(mill: Client) -> None:
    twins = [Document(id=str(n), text="one text") for n in range(5)]
    assert mill.estimate("twins", twins, model="hash:16").repeated_texts == 4


def test_each_reason_is_told_with_the_place_of_its_document(mill: Client) -> None:
    items: list[Any] = [{"id": "no text"}, Document(id="long", text="word " * 600), Document(id="fine", text="fine")]
    estimate = mill.estimate("reasons", items, model="hash:16", chunking=Chunking(long_texts="refuse"))
    (rejected,), (dead,) = estimate.rejections, estimate.deaths
    assert (rejected.position, rejected.id, "text" in rejected.reason) == (0, "no text", True)
    assert (dead.position, dead.id) == (1, "long")
    assert dead.reason.startswith("TextTooLong: text: expected at most 512 tokens")


def test_seconds_are_told_by_a_rate_and_where_none_is_known_they_are_not(mill: Client) -> None:
    texts = [Document(id=str(n), text="word " * 400) for n in range(50)]
    unknown = mill.estimate("rates", texts, model="hash:16", measure=False)
    default = mill.estimate("rates", texts, model="hash:16")
    given = mill.estimate("rates", texts, model="hash:16", tokens_per_s=1000)
    measured = mill.estimate("rates", texts, model="hash:16", measure=True)
    assert unknown.rate_source in (None, RateSource.WORKERS)
    assert (given.rate_source, given.tokens_per_s, given.workers) == (RateSource.GIVEN, 1000, 1)
    assert given.seconds == pytest.approx(given.tokens / 1000, rel=0.05)
    assert {measured.rate_source, default.rate_source} == {RateSource.MEASURED}
    assert measured.tokens_per_s is not None


def test_a_rate_is_measured_at_the_pace_of_documents_and_not_of_queries(
    mill: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, lanes = Batcher.submit, set[Lane]()

    def watched(self: Batcher, texts: Any, lane: Lane = Lane.BULK, **how: Any) -> Any:
        lanes.add(lane)
        return submit(self, texts, lane, **how)

    monkeypatch.setattr(Batcher, "submit", watched)
    mill.estimate("lanes", [Document(id="a", text="one two")], model="hash:16", measure=True)
    assert lanes == {Lane.BULK}


def test_what_cannot_be_measured_leaves_the_counts_unless_it_was_insisted_on(
    mill: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise WaitTimeout("no vector in time")

    monkeypatch.setattr(mill._parts.queries, "encode", away)
    assert mill.estimate("away", Document(id="a", text="one two"), model="hash:16").tokens == 2
    with pytest.raises(WaitTimeout, match="in time"):
        mill.estimate("away", Document(id="a", text="one two"), model="hash:16", measure=True)


def test_the_estimate_so_far_is_told_while_it_counts(mill: Client) -> None:
    seen: list[Estimate] = []
    last = mill.estimate(
        "parts", (Document(id=str(n), text="t") for n in range(200)), model="hash:16", progress=seen.append
    )
    assert [each.accepted for each in seen] == [64, 128, 192, 200]
    assert seen[-1].tokens == last.tokens


def test_an_existing_collection_is_not_estimated_otherwise_than_it_is(mill: Client) -> None:
    mill.create_collection("fixed", "hash:16", chunking=Chunking(size=64))
    with pytest.raises(CollectionConflict, match="chunking"):
        mill.estimate("fixed", [], chunking=Chunking(size=128))
    with pytest.raises(CollectionConflict, match="exists with model hash:16, asked for demo"):
        mill.estimate("fixed", [], model="demo")


def test_wrong_arguments_are_named(mill: Client) -> None:
    with pytest.raises(InvalidInput, match="tokens_per_s: expected it or measure"):
        mill.estimate("c", [], measure=True, tokens_per_s=5)
    with pytest.raises(InvalidInput, match="tokens_per_s"):
        mill.estimate("c", [], tokens_per_s=0)


def test_a_model_that_nobody_serves_and_nobody_has_here_is_named(mill: Client) -> None:
    with pytest.raises(NoWorker, match="no-such/model") as caught:
        mill.estimate("c", [], model="no-such/model")
    assert "not on this machine" in caught.value.__notes__[0]


def test_without_the_tokenizer_the_answer_is_an_estimate_and_says_why(
    mill: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gristmill.extras import brought_by

    def missing(*_: object, **__: object) -> None:
        with brought_by("worker", "counting tokens of demo"):
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")

    monkeypatch.setattr("gristmill_worker.pipeline.forecaster.open_reader", missing)
    prose = [Document(id="en", text="the river turns the wheel " * 100), Document(id="zh", text="磨坊在河边，" * 100)]
    mill.create_collection("rough", "hash:16", chunking=Chunking(size=100, overlap=10))
    estimate = mill.estimate("rough", prose)
    assert estimate.inexact is not None
    assert "pip install 'gristmill[worker]'" in estimate.inexact
    assert estimate.tokens == pytest.approx(2600 / 4 + 1800 / 4, rel=0.15)
    assert estimate.chunks == pytest.approx(13, abs=2)


def test_a_tenants_client_estimates_its_own_documents(mill: Client) -> None:
    mill.create_collection("owned", "hash:16", tenants=True)
    assert mill.estimate("owned", Document(id="a", text="t")).rejected == 1
    assert mill.tenant("acme").estimate("owned", Document(id="a", text="t")).accepted == 1


async def _estimated(texts: list[Document]) -> Estimate:
    async def stream() -> Any:
        for each in texts:
            yield each

    client = AsyncClient.embedded(model="hash:16", threads=1)
    async with client:
        return await client.estimate("c", stream(), model="hash:16")


def test_the_async_twin_takes_async_streams() -> None:
    assert asyncio.run(_estimated([Document(id=str(n), text="a b c") for n in range(70)])).tokens == 210


# the command line


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gristmill.cli.ingest.counts._folder", lambda: tmp_path / "counts")


def lines(file: Path, *records: dict[str, Any]) -> str:
    file.write_text("\n".join(map(json.dumps, records)))
    return str(file)


def test_a_dry_run_prints_one_object_and_creates_nothing(run: Run, embedded: Path) -> None:
    file = lines(
        embedded / "d.jsonl", {"id": "a", "text": "one two"}, {"id": "a", "text": "x"}, {"id": "b", "text": "three"}
    )
    code, out, _ = run("ingest", file, "-c", "docs", "--dry-run", "--json")
    estimate = json.loads(out)
    assert (code, estimate["accepted"], estimate["tokens"], estimate["duplicates"]) == (1, 2, 3, 1)
    assert (estimate["exists"], estimate["complete"]) == (False, True)
    assert json.loads(run("collections", "list", "--json")[1])["collections"] == []
    assert run("ingest", file, "-c", "docs", "--json")[0] == 1
    code, out, _ = run("ingest", file, "-c", "docs", "--dry-run", "--json")
    assert json.loads(out)["skipped"] == 2


def test_a_dry_run_tells_people_what_would_happen(run: Run, embedded: Path) -> None:
    file = lines(embedded / "d.jsonl", *({"id": str(n), "text": "one two three"} for n in range(3)))
    code, out, _ = run("ingest", file, "-c", "docs", "--dry-run", "--tokens-per-s", "10")
    assert code == 0
    assert "3 documents: 3 to be stored; nothing was written" in out
    assert "9 tokens in 3 chunks" in out
    assert "docs, which would be created" in out
    assert "a few seconds at 10 tokens/s, as given" in out
    assert "2 documents as others before" in out


def test_markdown_is_estimated_as_ingest_would_cut_it(run: Run, embedded: Path) -> None:
    (embedded / "guide.md").write_text("# Guide\n\n" + "".join(f"## Part {n}\n\n{'word ' * 300}\n\n" for n in range(4)))
    call = ("ingest", str(embedded / "guide.md"), "-c", "guide", "--no-sections", "--json")
    estimate = json.loads(run(*call, "--dry-run")[1])
    report = json.loads(run(*call)[1])
    assert (estimate["chunks"], estimate["tokens"]) == (report["chunks"], report["tokens"])
    assert report["chunks"] > 1


def test_ctrl_c_gives_what_was_counted_so_far(run: Run, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lines(embedded / "d.jsonl", *({"id": str(n), "text": "one two three"} for n in range(200)))
    take, taken = Estimator._take, []

    def interrupted(self: Estimator, batch: tuple[Document, ...]) -> None:
        taken.append(batch)
        if len(taken) == 3:
            raise KeyboardInterrupt
        take(self, batch)

    monkeypatch.setattr(Estimator, "_take", interrupted)
    code, out, _ = run("ingest", file, "-c", "docs", "--dry-run", "--json")
    estimate = json.loads(out)
    assert (code, estimate["accepted"], estimate["complete"]) == (130, 128, False)


def test_ingest_of_the_same_files_takes_the_counts_for_its_progress_bar(
    run: Run, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lines(embedded / "d.jsonl", *({"id": str(n), "text": "one two three"} for n in range(5)))
    told: list[int | None] = []

    def watch(*given: Any, tokens: int | None = None, **how: Any) -> JobReport:
        told.append(tokens)
        return watch_job(*given, tokens=tokens, **how)

    monkeypatch.setattr("gristmill.cli.ingest.commands.watch_job", watch)
    assert run("ingest", file, "-c", "docs", "--dry-run")[0] == 0
    assert run("ingest", file, "-c", "docs")[0] == 0
    assert run("ingest", file, "-c", "other")[0] == 0
    lines(embedded / "d.jsonl", {"id": "0", "text": "another"})
    assert run("ingest", file, "-c", "docs")[0] == 0
    assert told == [15, None, None]


def test_counts_of_what_cannot_be_told_again_are_not_remembered(tmp_path: Path) -> None:
    estimate = Estimate(collection="c", exists=True, model="m", accepted=2, tokens=9)
    file = lines(tmp_path / "d.jsonl", {"id": "a", "text": "t"})
    cache = CountsCache("c", None)
    assert cache.remember(read(file), estimate)
    assert cache.recall(read(file)) == Counts(2, 9)
    assert cache.recall(read(file, text_field="body")) is None
    assert CountsCache("c", "acme").recall(read(file)) is None
    assert not cache.remember(read("-"), estimate)


def test_options_of_a_dry_run_are_refused_without_one(run: Run, embedded: Path) -> None:
    file = lines(embedded / "d.jsonl", {"id": "a", "text": "t"})
    code, out, _ = run("ingest", file, "-c", "docs", "--measure", "--json")
    assert (code, json.loads(out)["error"]) == (2, "InvalidInput")


def test_rejections_of_readers_keep_their_place(mill: Client) -> None:
    bad = Rejection(position=7, source="a.jsonl", reason="json: expected an object, got a list")
    assert mill.estimate("c", [bad], model="hash:16").rejections == (bad,)
