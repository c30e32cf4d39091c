"""`gristmill bench estimate`: what `gristmill ingest --dry-run` says of a job, and what the job then takes.

Kinds of texts go by turns, in every round each with new texts, so that the machine's moods meet all of them alike. A kind is
estimated, with a rate that is measured then, and enqueued at once. Of each is told the median of what was estimated and of
what it took, and the errors of all rounds; tokens and chunks must be those of the job. The largest error is that of the
kinds whose jobs took long enough for anybody to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, cycle, islice
from statistics import median
from typing import Any

from gristmill import Client, Document, Estimate, JobReport
from gristmill.cli.ingest.dry_run import LEAST_TOLD_S
from gristmill.cli.layout import fields
from gristmill_worker.bench.pipeline.records import Plan
from gristmill_worker.bench.pipeline.run import left_by_signals
from gristmill_worker.bench.pipeline.site import Note, Site
from gristmill_worker.demo.corpus import faq, language_reference

#: Characters of a token, roughly: texts are sized before any tokenizer has seen them.
_ENGLISH, _CHINESE = 4.0, 1.2
#: Documents of the kind `few`.
_FEW = 24
#: Passages of the reference in a document that has to be cut into many chunks.
_PASSAGES = 12


@dataclass(frozen=True)
class EstimatePlan:
    """What is measured."""

    encoder: str = "demo"
    #: Of each kind but `few`, roughly.
    tokens: int = 12_000
    kinds: tuple[str, ...] = ()
    workers: int = 1
    rounds: int = 3


@dataclass(frozen=True)
class Pair:
    """One job, before and after."""

    estimated: Estimate
    real: JobReport

    @property
    def error(self) -> float:
        """Of the seconds, relative to those that it took."""
        return (self.estimated.seconds or 0.0) / self.real.seconds - 1

    @property
    def exact(self) -> bool:
        """Whether it became what had been said."""
        names = ("stored", "dead", "tokens", "chunks", "truncated")
        return all(getattr(self.estimated, name) == getattr(self.real, name) for name in names)


def measure(plan: EstimatePlan, note: Note) -> dict[str, Any]:
    """Measure on running servers; leaves nothing behind.

    Returns:
        By kind: documents, tokens, seconds estimated and real, the errors.

    Raises:
        GristmillError: Redis or Qdrant is away, or a worker ended.
    """
    kinds = {name: KINDS[name] for name in plan.kinds or KINDS}
    pairs: dict[str, list[Pair]] = {name: [] for name in kinds}
    with left_by_signals() as left, ExitStack() as stack:
        note = left.noted(note)
        site = Site(Plan(plan.encoder, 0, workers=plan.workers), note, stack)
        client = stack.enter_context(Client(site.settings))
        _warm_up(site, client)
        for number in range(1, plan.rounds + 1):
            for name, make in kinds.items():
                pairs[name].append(_pair(site, client, [*make(plan.tokens, f"round {number}")]))
                last = pairs[name][-1]
                note(
                    f"{name}: {last.estimated.seconds:.1f} s estimated, {last.real.seconds:.1f} s real ({last.error:+.0%})"
                )
    told = {name: _figures(each) for name, each in pairs.items()}
    return {
        "encoder": plan.encoder,
        "workers": plan.workers,
        "rounds": plan.rounds,
        "kinds": told,
        "largest_error": max((abs(of["error"]) for of in told.values() if of["real_s"] >= LEAST_TOLD_S), default=None),
    }


def _warm_up(site: Site, client: Client) -> None:
    with site.usual_collection() as name:
        client.enqueue(name, short_english(2_000, "warm")).wait()


def _pair(site: Site, client: Client, documents: list[Document]) -> Pair:
    with site.usual_collection() as name:
        estimated = client.estimate(name, documents, measure=True)
        return Pair(estimated, site.finish(client.enqueue(name, documents).id))


def _figures(pairs: list[Pair]) -> dict[str, Any]:
    last = pairs[-1]
    return {
        "documents": last.real.accepted,
        "chunks": last.real.chunks,
        "tokens": last.real.tokens,
        "estimated_s": round(median(each.estimated.seconds or 0.0 for each in pairs), 2),
        "real_s": round(median(each.real.seconds for each in pairs), 2),
        "error": round(median(each.error for each in pairs), 4),
        "errors": [round(each.error, 4) for each in pairs],
        "exact": all(each.exact for each in pairs),
    }


def show(figures: dict[str, Any]) -> None:
    """The figures for people."""
    rows = [(name.replace("_", " "), value) for name, value in figures.items() if not isinstance(value, dict)]
    kinds = [
        (
            name.replace("_", " "),
            f"{of['estimated_s']} s estimated, {of['real_s']} s real: {of['error']:+.0%}; {of['documents']:,} documents, "
            f"{of['tokens']:,} tokens, {'exact' if of['exact'] else 'NOT as they became'}",
        )
        for name, of in figures["kinds"].items()
    ]
    fields([*rows, *kinds])


# kinds of texts: about so many tokens, none of them as in another round


def short_english(tokens: int, about: str) -> Iterator[Document]:
    """Single sentences of the language reference."""
    sentences = (line for each in language_reference() for line in each.text.split(". ") if len(line) > 20)
    return _until(tokens * _ENGLISH, about, (text[:120] for text in cycle([*sentences])))


def short_chinese(tokens: int, about: str) -> Iterator[Document]:
    """The beginnings of entries of the FAQ."""
    return _until(tokens * _CHINESE, about, (text[:40] for text in cycle([each.text for each in faq()])))


def mixed(tokens: int, about: str) -> Iterator[Document]:
    """Entries, sentences and pages by turns, and one document that has to be cut."""
    yield from one_file(tokens // 4, f"{about}, long")
    both = cycle(text for pair in zip(_pages(), cycle([each.text for each in faq()]), strict=False) for text in pair)
    yield from _until(tokens * 0.75 * (_ENGLISH + _CHINESE) / 2, about, both)


def long(tokens: int, about: str) -> Iterator[Document]:
    """Documents of many chunks each."""
    pages, many = cycle(_pages()), len(_pages())
    texts = ["\n\n".join(islice(pages, _PASSAGES)) for _ in range(many)]
    return _until(tokens * _ENGLISH, about, cycle(texts))


def one_file(tokens: int, about: str) -> Iterator[Document]:
    """A single document."""
    text = "\n\n".join([each.text for each in _until(tokens * _ENGLISH, about, cycle(_pages()))])
    yield Document(id=f"file {about}", text=text)


def few(tokens: int, about: str) -> Iterator[Document]:
    """Less than a parcel, of ordinary pages."""
    return islice(_until(tokens * _ENGLISH, about, cycle(_pages())), _FEW)


KINDS: Mapping[str, Callable[[int, str], Iterator[Document]]] = {
    "short_chinese": short_chinese,
    "short_english": short_english,
    "mixed": mixed,
    "long": long,
    "one_file": one_file,
    "few": few,
}


def _pages() -> list[str]:
    return [each.text for each in language_reference()]


def _until(characters: float, about: str, texts: Iterator[str]) -> Iterator[Document]:
    for number, text in zip(count(), texts, strict=False):
        if characters <= 0:
            return
        characters -= len(text)
        yield Document(id=f"{number} {about}", text=f"{text} ({number}, {about})")
