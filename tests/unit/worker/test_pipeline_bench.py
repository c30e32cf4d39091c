"""The pipeline benchmark: wrong calls are refused before anything starts, figures are medians of each round's own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import create_autospec

import pytest

from gristmill.cli import layout
from gristmill.cli.output import Screen
from gristmill.cli.root import main
from gristmill_schemas import Document, JobReport, JobState, Templates
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.bench.pipeline.crew import Crew, rate_of
from gristmill_worker.bench.pipeline.documents import make_documents, model_inputs, share_of
from gristmill_worker.bench.pipeline.inspection import Inspection
from gristmill_worker.bench.pipeline.meters import added_up, idle_shares
from gristmill_worker.bench.pipeline.peers import require
from gristmill_worker.bench.pipeline.processes import Answer, Side
from gristmill_worker.bench.pipeline.records import Pass, Passes, Plan, Rounds
from gristmill_worker.bench.pipeline.report import report
from gristmill_worker.bench.pipeline.site import Site
from gristmill_worker.bench.pipeline.table import show
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.encoder.open import open_reader


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--dimensions", "8", "--encoder", "demo"], "expected hash:8"),
        (["--dimensions", "8", "--encoder", "hash:16"], "expected hash:8"),
        (["--documents", "0"], "--documents"),
        (["--rounds", "0"], "--rounds"),
        (["--workers", "0"], "--workers"),
        (["--peers", "haystack"], "haystack"),
        (["--peers", "langchain", "--encoder", "demo"], "hash:DIM"),
        (["--encoder", "hash:many"], "hash:DIM"),
        (["--encoder", "hash:0"], "hash:DIM"),
        (["--encoder", "card:fast"], "card:TOKENS_PER_S"),
        (["--tokens", "1"], "--tokens"),
        (["--scaling"], "workers: expected at least 2 with --scaling, got 1"),
    ],
)
def test_a_wrong_call_is_told_before_anything_starts(
    options: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gristmill", "bench", "pipeline", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert named in err
    assert "making" not in err


def test_a_peer_whose_packages_are_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_qdrant", None)
    with pytest.raises(Exception, match=r"pip install 'gristmill\[bench\]'"):
        require(["langchain"], "hash:8")


def test_an_unknown_peer_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match=r"langchain, .*llamaindex.*got 'llama'"):
        require(["llama"], "hash:8")


@pytest.mark.parametrize("shares", [1, 2, 3])
def test_encoders_side_by_side_have_the_same_work_each(shares: int) -> None:
    """Of every second paragraph from 500 one half had 6 % more characters than the other."""
    documents = make_documents("demo", 500)
    dealt = [share_of(documents, share, shares) for share in range(shares)]
    assert sorted(int(each.id) for share in dealt for each in share) == list(range(500))
    assert all(share == sorted(share, key=lambda each: int(each.id)) for share in dealt)
    characters = [sum(len(each.text) for each in share) for share in dealt]
    assert max(characters) < 1.01 * min(characters)


def test_an_encoder_alone_encodes_what_a_worker_has_it_encode() -> None:
    info = HashEncoder(8).info.model_copy(update={"templates": Templates(document="passage: {text}")})
    assert model_inputs([Document(id="1", text="flour")], info) == ["passage: flour"]


@pytest.mark.parametrize("encoder", ["hash:8", "demo"])
def test_documents_are_always_the_same_and_never_alike(encoder: str) -> None:
    documents = make_documents(encoder, 100)
    assert documents == make_documents(encoder, 100)
    assert len({each.id for each in documents}) == len({each.text for each in documents}) == 100


def test_documents_are_as_long_as_they_are_asked_for() -> None:
    documents = make_documents("hash:8", 50, tokens=175)
    assert documents == make_documents("demo", 50, tokens=175)
    assert len({each.text for each in documents}) == 50
    counts = [len(each.ids) for each in open_reader("random:qwen3-0.6b").tokenize([each.text for each in documents])]
    assert 150 < sum(counts) / 50 < 200


def test_what_a_simulated_card_had_nothing_to_do_is_of_its_rate_and_of_the_time_of_new_documents() -> None:
    rounds = Rounds(
        dimensions=8,
        ours=Passes(new=passes(4.0, 5.0), unchanged=passes(1.0, 1.0)),
        raw=Passes(new=passes(0.5, 0.5)),
        held=[Inspection(100, 0, 0)],
        encoder=[25.0, 25.0],
        rss_mb=[10.0],
        launch_ms=[{"median": 4.0, "p95": 8.0}, {"median": 6.0, "p95": 9.0}],
        encoder_launch_ms=[{"median": 2.0, "p95": 3.0}, {"median": 2.0, "p95": 3.0}],
        tokens=16_000,
    )
    figures = report(Plan("card:1000", 100, workers=4, rounds=2), rounds)
    assert figures["card_idle"] == pytest.approx((0.0 + 0.2) / 2)
    assert figures["launch_ms"] == {"median": 5.0, "p95": 8.5}
    assert figures["encoder_launch_ms"] == {"median": 2.0, "p95": 3.0}
    assert "card_idle" not in report(Plan("hash:8", 100, rounds=2), rounds)


def test_ratios_are_of_rates_of_the_same_round() -> None:
    rounds = Rounds(
        dimensions=8,
        ours=Passes(new=passes(1.0, 4.0, 2.0), unchanged=passes(1.0, 1.0, 1.0)),
        raw=Passes(new=passes(0.5, 1.0, 1.5)),
        held=[Inspection(100, 0, 0), Inspection(98, 2, 0), Inspection(100, 0, 1)],
        encoder=[200.0, 50.0, 100.0],
        rss_mb=[10.0, 30.0, 20.0],
        worker_idle=[{"no_work": 0.1, "tokens": 0.0}, {"no_work": 0.3, "tokens": 0.2}, {"no_work": 0.2, "tokens": 0.1}],
    )
    figures = report(Plan("hash:8", 100, rounds=3), rounds)
    assert figures["documents_per_s"] == 50.0
    assert figures["spread"]["documents_per_s"] == [25.0, 100.0]
    # Per round 0.5, 0.25, 0.75; of the medians 50 / 100 it would be the same only by chance.
    assert figures["ceiling_fraction"] == 0.5
    assert figures["efficiency"] == 0.5
    assert figures["worker_idle"] == {"no_work": 0.2, "tokens": 0.1}
    assert (figures["stored"], figures["lost"], figures["duplicates"]) == (98, 2, 1)
    assert figures["worker_cpu_ms_per_document"] == 20.0
    assert figures["qdrant_cpu_ms_per_document"] is None
    assert figures["indexed"] is None
    assert figures["rss_mb"] == 30.0


def test_workers_are_compared_with_one_of_the_same_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = Rounds(
        dimensions=8,
        ours=Passes(new=passes(1.0, 4.0, 2.0), unchanged=passes(1.0, 1.0, 1.0)),
        raw=Passes(new=passes(1.0, 1.0, 1.0)),
        held=[Inspection(100, 0, 0)],
        encoder=[110.0, 30.0, 60.0],
        one=passes(1.5, 7.6, 3.8),
        one_encoder=[55.0, 20.0, 30.0],
        rss_mb=[10.0],
    )
    plan = Plan("hash:8", 100, rounds=3, workers=2)
    assert "scaling" not in report(plan, rounds)
    figures = report(replace(plan, scaling=True), rounds)
    assert (figures["scaling"], figures["spread"]["scaling"]) == (1.9, [1.5, 1.9])
    assert (figures["encoder_scaling"], figures["spread"]["encoder_scaling"]) == (2.0, [1.5, 2.0])
    assert figures["one_worker_documents_per_s"] == pytest.approx(100 / 3.8, abs=1e-4)
    assert figures["one_worker_efficiency"] == pytest.approx(100 / 3.8 / 30, abs=1e-4)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(layout, "console", Screen())
    show(figures)
    said = capsys.readouterr().out
    assert "gristmill, one worker" in said
    assert "1.9 (1.5 to 1.9) times one worker; encoders alone 2.0 (1.5 to 2.0)" in said


def test_encoders_side_by_side_do_the_sum_of_what_each_does_in_all_its_passes() -> None:
    before, after = ([{"texts": 50, "seconds": each} for each in seconds] for seconds in ((1.0, 2.0), (4.0, 3.0)))
    assert rate_of([before, after]) == 100 / 5 + 100 / 5
    assert rate_of([before]) == 50 + 25


class Stage:
    """Notes what a crew has done, in order; a second for each pass of an encoder."""

    def __init__(self, passes: int) -> None:
        self.done: list[str] = []
        self.expected_s: list[float] = []
        self.encoders = [cast("Side", create_autospec(Side, instance=True)) for _ in range(passes)]
        for each in self.encoders:
            cast("Any", each).start.side_effect = lambda everything: self.done.append(f"encode, {everything}")
            cast("Any", each).answer.return_value = Answer(1.0, 1.0, {"texts": 50, "seconds": 1.0})
        self.site = cast("Any", create_autospec(Site, instance=True))
        self.site.side.return_value.ask.return_value = Answer(0.1, 0.1, {"job": "j"})
        self.site.finish.side_effect = self._finish
        self.site.measured.side_effect = lambda name, count, work: Pass(count, work()[0], 0.0, 0, {})

    def _finish(self, job: str, expected_s: float) -> JobReport:
        self.done.append("load")
        self.expected_s.append(expected_s)
        return JobReport(job_id=job, collection="c", state=JobState.DONE, seconds=2.0)

    def load(self, *, costs_nothing: bool) -> float:
        crew = Crew(self.site, Path("documents"), 100, self.encoders, costs_nothing=costs_nothing)
        done, alone = crew.load_beside_encoders("c")
        assert done.rate == 50
        return rate_of(alone)


def test_the_encoder_alone_is_measured_before_and_after_the_workers() -> None:
    stage = Stage(2)
    assert stage.load(costs_nothing=False) == 100
    assert stage.done == ["encode, False"] * 2 + ["load"] + ["encode, False"] * 2
    assert 0 < stage.expected_s[0] < 1  # it is not looked at while it cannot be done


def test_an_encoder_that_costs_nothing_is_measured_once_and_one_by_itself_encodes_everything() -> None:
    stage = Stage(1)
    assert stage.load(costs_nothing=True) == 50
    assert (stage.done, stage.expected_s) == (["load", "encode, True"], [0.0])


def test_every_median_has_its_spread_and_what_was_indexed_is_said() -> None:
    rounds = Rounds(
        dimensions=8,
        ours=Passes(passes(1.0, 2.0), passes(1.0, 1.0)),
        raw=Passes(passes(1.0, 1.0)),
        peers={"langchain": Passes(passes(1.0, 3.0), passes(1.0, 1.0), points=[100, 100])},
        held=[Inspection(100, 0, 0)],
        encoder=[200.0, 50.0],
        rss_mb=[10.0],
    )
    figures = report(Plan("hash:8", 100, rounds=2, index=True), rounds)
    one_value = {"documents", "dimensions", "workers", "rounds", "stored", "lost", "duplicates", "rss_mb"}
    counts = {"indexed", "raw_indexed", "points"}
    for each in (figures, *figures["peers"]):
        numbers = {key for key, value in each.items() if isinstance(value, int | float)}
        assert set(each["spread"]) == numbers - one_value - counts
        assert each["indexed"] == 99
    assert figures["spread"]["ceiling_fraction"] == [0.5, 1.0]
    assert figures["raw_indexed"] == 99
    assert figures["peers"][0]["spread"]["green_s"] == [1.0, 3.0]


def test_what_a_model_waited_is_told_without_the_time_before_and_after_a_pass() -> None:
    before = {"no_work": 5.0, "tokens": 1.0, "store": 0.0, "busy": 4.0}
    # Twelve seconds later, ten of which were the pass.
    after = added_up(
        [{"no_work": 4.0, "tokens": 2.0, "store": 0.0, "busy": 6.0}, {**before, "no_work": 4.0, "busy": 5.0}]
    )
    assert idle_shares(before, after, 10.0) == pytest.approx({"no_work": 0.1, "tokens": 0.2, "store": 0.0})


def passes(*seconds: float) -> list[Pass]:
    cpu_s = {"side": 1.0, "worker": 2.0, "redis": 0.5, "qdrant": None}
    return [Pass(100, each, each, 99, cpu_s) for each in seconds]
