"""The rounds of the benchmark.

In each round the same documents go, one after the other and into collections of their own: through queue and workers (new,
then unchanged), raw into Qdrant, and through the peers; and through the encoder alone, right before and right after the
workers. A noisy neighbour hits all of them. What is loaded raw are the points that the workers wrote, read back in the first
round. Where several workers are compared with one, that has servers' keys of its own, and whichever of both is not measured
is halted: even an idle worker takes a hundredth of a core.
"""

from __future__ import annotations

import functools
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from gristmill.settings import load_settings
from gristmill.store.connection import store_errors
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.bench.pipeline.crew import Crew, rate_of
from gristmill_worker.bench.pipeline.documents import PointsFile, make_documents, write_documents
from gristmill_worker.bench.pipeline.inspection import inspect
from gristmill_worker.bench.pipeline.meters import idle_shares
from gristmill_worker.bench.pipeline.peers import require
from gristmill_worker.bench.pipeline.processes import Answer, Side
from gristmill_worker.bench.pipeline.records import Passes, Plan, Rounds
from gristmill_worker.bench.pipeline.site import Note, Site
from gristmill_worker.encoder.open import card_rate, open_encoder
from gristmill_worker.process.supervisor import prepare
from gristmill_worker.settings import WorkerSettings

#: Documents that go all the way once before anything is measured; with a model, which is warm when its worker is ready, so
#: many for each worker.
_WARM_UP, _WARM_UP_OF_A_MODEL = 256, 64


def measure(plan: Plan, note: Note) -> Rounds:
    """Measure on running servers; whatever ends it, no process and no collection of it is left.

    Raises:
        InvalidInput, ModelUnavailable, NotInstalled, GristmillError: what was asked for cannot be had.
    """
    require(plan.peers, plan.encoder)
    if plan.scaling and plan.workers < 2:
        raise InvalidInput(f"workers: expected at least 2 with --scaling, got {plan.workers}", field="workers")
    require_encoder(plan.encoder)
    with left_by_signals() as left, ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="gristmill-bench-")))
        return _Bench(plan, left.noted(note), folder, closing).run()


def require_encoder(name: str) -> None:
    """Say what is wrong with it here, once, and not in every process."""
    if name.startswith("hash:"):
        open_encoder(name).close()
    elif name.startswith("card:"):
        card_rate(name)
    else:
        prepare([name], load_settings(WorkerSettings).revision)


class Left:
    """What a signal has said. Raised once more with the next note, since what a handler raises can be lost.

    Python prints and drops an exception that comes up in a finalizer or a callback of the collector; the benchmark would
    go on for all its rounds as if nobody had asked it to end.
    """

    def __init__(self) -> None:
        self._ended: BaseException | None = None

    def end(self, ended: BaseException) -> NoReturn:
        """Leave by this."""
        self._ended = ended
        raise ended

    def noted(self, note: Note) -> Note:
        """Notes that leave, where somebody has asked for it and nothing is being left yet."""

        def tell(text: str) -> None:
            if self._ended is not None and sys.exception() is None:
                raise self._ended
            note(text)

        return tell


@contextmanager
def left_by_signals() -> Iterator[Left]:
    """Ctrl-C, SIGTERM and a closed terminal leave through every block that is open."""
    left = Left()

    def leave(number: int, _: object) -> None:
        left.end(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))

    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [each for each in asked if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, leave) for each in numbers}
    try:
        yield left
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Bench:
    """Site, sides and documents of one run."""

    def __init__(self, plan: Plan, note: Note, folder: Path, closing: ExitStack) -> None:
        self._plan, self._note = plan, note
        note(f"making {plan.documents:,} documents")
        documents = make_documents(plan.encoder, plan.documents, plan.tokens)
        self._ids = [each.id for each in documents]
        texts = folder / "documents.jsonl"
        write_documents(texts, documents)
        self._points = PointsFile(folder)
        of_one = Site(replace(plan, workers=1), note, closing) if plan.scaling else None
        if of_one is not None:
            # Batches of one size for all, whatever each would have found best.
            plan = replace(plan, budget_tokens=of_one.budgets()[0])
        self._site = Site(plan, note, closing)
        self._rounds = Rounds(dimensions=self._site.encoder.dimensions)
        share = {"documents": str(texts), "model": plan.encoder, "shares": plan.workers}
        # What each worker has measured: with batches of another size it would be another encoder.
        shares = [{**share, "share": number, "budget_tokens": each} for number, each in enumerate(self._site.budgets())]
        self._costs_nothing = plan.encoder.startswith("hash:")
        encoders = self._site.sides("encoder", shares)
        crew = functools.partial(Crew, documents=texts, count=plan.documents, costs_nothing=self._costs_nothing)
        self._crew = crew(self._site, encoders=encoders)
        self._one = None if of_one is None else crew(of_one, encoders=encoders[:1])
        self._raw: Side | None = None
        self._peers: dict[str, Side] = {}

    def run(self) -> Rounds:
        """All rounds."""
        self._note("warming up")
        for crew, workers in ((self._crew, self._plan.workers), (self._one, 1)):
            if crew is not None:
                with crew.site.collection() as name:
                    crew.enqueue(name, _WARM_UP if self._costs_nothing else _WARM_UP_OF_A_MODEL * workers)
        for number in range(1, self._plan.rounds + 1):
            title = f"round {number} of {self._plan.rounds}"
            if self._one is None:
                self._round(title, self._site.model_seconds)
            else:
                self._round_of_both(title, self._one, one_first=number % 2 == 1)
        return self._rounds

    def _round_of_both(self, title: str, one: Crew, *, one_first: bool) -> None:
        """One comes first in every second round: a host that grows slower or faster all the time does so for both."""
        if one_first:
            self._load_one(title, one)
        with one.site.halted():
            self._round(title, self._site.settled)
        if not one_first:
            self._load_one(title, one)

    def _load_one(self, title: str, one: Crew) -> None:
        rounds = self._rounds
        with self._site.halted(), one.site.collection() as name:
            one.site.settled()
            done, alone = one.load_beside_encoders(name)
            rounds.one.append(done)
            rounds.one_encoder.append(rate_of(alone))
            rounds.held.append(inspect(one.site.store, name, self._ids))
        self._note(
            f"{title}: {done.rate:,.0f} documents/s, new, one worker; {rounds.one_encoder[-1]:,.0f} by one encoder alone"
        )

    def _round(self, title: str, begin: Callable[[], dict[str, float]]) -> None:
        """`begin`: gives the seconds that models have waited so far."""
        with self._site.collection() as name:
            self._load_ours(name, title, begin())
            self._rounds.rss_mb.append(self._site.rss_mb())
            if self._raw is None:
                self._raw = self._take_points(name)
        self._load_raw(self._raw, title)
        for peer, side in self._peers.items():
            self._load_peer(peer, side, title)

    def _take_points(self, name: str) -> Side:
        """Prepare the sides that load what the workers have written."""
        self._note("reading the points back, for those that load the same")
        self._points.copy(self._site.store, name)
        points = str(self._points.folder)
        for each in self._plan.peers:
            self._peers[each] = self._site.side("peer", name=each, points=points)
        return self._site.side("raw", points=points)

    def _load_ours(self, name: str, title: str, before: dict[str, float]) -> None:
        rounds = self._rounds
        done, alone = self._crew.load_beside_encoders(name)
        rounds.ours.new.append(done)
        rounds.encoder.append(rate_of(alone))
        rounds.encoder_launch_ms += [each["launch_ms"] for said in alone for each in said if each["launch_ms"]]
        rounds.tokens = sum(each["tokens"] for each in alone[-1])
        self._note(f"{title}: {done.rate:,.0f} documents/s, new; {rounds.encoder[-1]:,.0f} by the encoder alone")
        rounds.worker_idle.append(idle_shares(before, self._site.model_seconds(), done.seconds * self._plan.workers))
        rounds.launch_ms += self._site.launch_ms()
        rounds.ours.unchanged.append(self._crew.load(name))
        self._note(f"{title}: {rounds.ours.unchanged[-1].rate:,.0f} documents/s, unchanged")
        rounds.held.append(inspect(self._site.store, name, self._ids))

    def _load_raw(self, side: Side, title: str) -> None:
        with self._site.collection() as name:
            done = self._site.measured(name, self._plan.documents, lambda: _spent(side.ask(collection=name)))
        self._rounds.raw.new.append(done)
        self._note(f"{title}: {done.rate:,.0f} points/s, raw")

    def _load_peer(self, peer: str, side: Side, title: str) -> None:
        passes = self._rounds.peers.setdefault(peer, Passes())
        with self._site.plain_collection() as name:
            side.ask(collection=name, load=False)
            for kind, into in (("new", passes.new), ("unchanged", passes.unchanged)):
                load = functools.partial(side.ask, collection=name, load=True)
                into.append(self._site.measured(name, self._plan.documents, lambda: _spent(load())))  # noqa: B023
                self._note(f"{title}: {into[-1].rate:,.0f} documents/s, {kind}, {peer}")
            with store_errors(name):
                passes.points.append(self._site.store.count(name, exact=True).count)


def _spent(answer: Answer) -> tuple[float, float]:
    return answer.seconds, answer.cpu_s
