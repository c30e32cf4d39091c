"""What the page shows, as JSON: bounded, whatever is there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any, Final

from gristmill.maintenance.troubles import Kind, Observed, Trouble
from gristmill.maintenance.troubles.judging import HUNG_S
from gristmill_schemas import CollectionSpec, DeadLetter, DeadSummary, Hits, JobReport, SearchHit
from gristmill_worker.server.live.highlights import parts
from gristmill_worker.server.live.watching import Broker, Seen, Store, Watch

#: Rows of a table, and characters of a text that somebody else wrote.
_ROWS, _CHARS = 200, 2_000
LANGUAGES: Final = ("en", "zh")
#: What a worker cannot go on without, by `gristmill_worker.waiting.notices.Waits`; for the rest it waits beside its work.
NEEDED: Final = ("broker", "store", "model_server", "device", "dead_letters", "collection", "alike")
#: Troubles of a server that answers.
_REDIS_AILS: Final = frozenset({Kind.REDIS_FULL, Kind.REDIS_EVICTS})
_QDRANT_AILS: Final = frozenset({Kind.SLOW_STORE})


def overview(watch: Watch, since: float) -> dict[str, Any]:
    """Everything that the page shows all the time."""
    said = watch.broker.said
    look, troubles = watch.observed(), watch.troubles()
    return {
        "at": look.at,
        **servers(look, {each.kind for each in troubles}, watch.broker, watch.store),
        "troubles": [_trouble(each) for each in troubles],
        "samples": [asdict(each) for each in watch.samples(since)],
        **({} if said is None else _broker(said)),
    }


def servers(look: Observed, found: Set[Kind], broker: Seen[Any], store: Seen[Store]) -> dict[str, Any]:
    """How Redis and Qdrant are: `ailing` where one answers, and what was found is a trouble of its."""
    version = {"version": store.said.version} if store.said else {}
    return {
        "redis": _server(look.redis_url, broker, ails=bool(found & _REDIS_AILS)),
        "qdrant": _server(look.qdrant_url, store, ails=bool(found & _QDRANT_AILS)) | version,
    }


def _server(url: str, seen: Seen[Any], *, ails: bool) -> dict[str, Any]:
    """How a server is; `age_s` is None where it never answered."""
    age = None if seen.at is None else round(time.monotonic() - seen.at, 1)
    state = "away" if seen.error else "asking" if age is None else "ailing" if ails else "there"
    return {"url": url, "state": state, "error": seen.error, "age_s": age, "ms": round(seen.seconds * 1000, 1)}


def _broker(said: Broker) -> dict[str, Any]:
    workers = [worker(name, status, said.at) for name, status in list(said.workers.items())[:_ROWS]]
    return {
        "load": asdict(said.load),
        "memory": None if said.memory is None else asdict(said.memory),
        "jobs": [job(each) for each in said.jobs],
        "queues": [each.model_dump(mode="json") for each in said.queues[:_ROWS]],
        "workers": workers,
        "all_workers": len(said.workers),
        "dead": dead(said.dead, said.at),
    }


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return {
        "kind": trouble.kind,
        "severity": trouble.severity,
        "what": {language: trouble.what(language) for language in LANGUAGES},
        "why": {language: trouble.why(language) for language in LANGUAGES},
        "command": trouble.command,
    }


def job(report: JobReport) -> dict[str, Any]:
    """One job, with what is reckoned from its counters."""
    return report.model_dump(mode="json", exclude={"reasons"}) | {
        "finished": report.finished,
        "pending": report.pending,
        "rate": round(report.finished / report.seconds, 3) if report.seconds > 0 else None,
    }


def worker(name: str, status: Mapping[str, Any], now: float) -> dict[str, Any]:
    """One worker: what it is at, and for what it waits."""
    engines = status.get("engines") or []
    return {
        "name": name,
        "state": _state(status),
        "waits": _waits(status),
        "up_s": round(max(0.0, now - started), 1) if (started := _number(status.get("started_at"))) else None,
        "parcels": status.get("parcels"),
        "notices": [_cut(str(notice)) for notice in _list(status.get("notices"))[:5]],
        "loading": [str(each.get("model")) for each in _list(status.get("loading")) if isinstance(each, Mapping)],
        "engines": [_engine(each) for each in engines[:10]],
    }


def _state(status: Mapping[str, Any]) -> str:
    if status.get("draining"):
        return "draining"
    state = str(status.get("state") or ("waiting" if status.get("notices") else "ready"))
    return "waiting" if state == "ready" and _waits(status) else state


def _waits(status: Mapping[str, Any]) -> list[str]:
    """What it cannot go on without, and waits for."""
    waits = {str(each) for each in _list(status.get("waits"))}
    if any(_number(each.get("batch_s")) > HUNG_S for each in _list(status.get("engines"))):
        waits.add("device")
    return [each for each in NEEDED if each in waits]


def _engine(engine: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model", "device", "dtype", "texts", "tokens", "tokens_per_s", "batch_s", "queued_texts")
    return {name: engine.get(name) for name in names}


def dead(summary: DeadSummary, now: float) -> dict[str, Any]:
    """Dead letters by what they died of."""
    groups = [
        each.model_dump(mode="json")
        | {"age_s": None if each.newest_died_at is None else round(max(0.0, now - each.newest_died_at), 1)}
        for each in summary.groups[:_ROWS]
    ]
    return summary.model_dump(mode="json", exclude={"groups"}) | {"share": summary.share, "groups": groups}


def letter(found: DeadLetter, now: float) -> dict[str, Any]:
    """One dead letter, with the beginning of its text."""
    document_id, tenant = found.identity
    return {
        "id": found.id,
        "document": document_id,
        "tenant": tenant,
        "job_id": found.job_id,
        "error": found.error,
        "reason": _cut(found.reason),
        "attempts": found.attempts,
        "age_s": round(max(0.0, now - found.died_at), 1),
        "text": _cut(found.document.text) if found.document else None,
        "replayable": found.item is not None,
    }


def collection(spec: CollectionSpec) -> dict[str, Any]:
    """What the search form offers of a collection."""
    return {
        "name": spec.name,
        "keyword": spec.keyword,
        "tenants": spec.tenants,
        "lenses": [each.name for each in spec.lenses],
        "instructions": [each.label for each in spec.instructions if each.retired_at is None],
        "model": spec.space.model,
    }


def found(query: str, hits: Hits) -> dict[str, Any]:
    """Hits with their highlights, and how they came about."""
    explanation = hits.explanation
    return {
        "hits": [_hit(query, each) for each in hits],
        "explanation": None if explanation is None else explanation.model_dump(mode="json"),
    }


def _hit(query: str, hit: SearchHit) -> dict[str, Any]:
    told = ("id", "score", "score_kind", "tenant", "version", "chunk", "chunks", "lens", "instruction")
    return {name: getattr(hit, name) for name in told} | {
        "parts": [{"text": text, "match": match} for text, match in parts(query, hit.text)],
        "metadata": _cut(json.dumps(hit.metadata, ensure_ascii=False)) if hit.metadata else "",
    }


def _cut(text: str) -> str:
    return text if len(text) <= _CHARS else f"{text[:_CHARS]}…"


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
