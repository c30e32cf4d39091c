"""The judgement: from looks at a mill to what is wrong with it, the worst first. Pure; asks nobody anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from gristmill.maintenance.troubles.activity import activity_between
from gristmill.maintenance.troubles.observed import FULL_SHARE, Observed
from gristmill.maintenance.troubles.trouble import Kind, Severity, Trouble
from gristmill_schemas import DeadGroup
from gristmill_schemas.redaction import HIDDEN

#: A batch that has been on its device for longer than this hangs, seconds; the slowest that were seen take a few.
HUNG_S: Final = 30.0
#: An answer of Qdrant's that costs it nothing takes milliseconds.
_SLOW_ANSWER_S: Final = 1.0
#: Part of the workers' time spent waiting for Qdrant from which on it is what slows them down.
_SLOW_SHARE: Final = 0.4
#: How far back is looked: for what workers do now, and for what has changed.
_NOW_S, _LATELY_S = 30.0, 600.0
#: Deaths are told for so long, and silences until others have what was in hand, seconds.
_NEWS_S, _GONE_S = 3600.0, 120.0
#: Workers that have vanished lately, from which on they are no accidents.
_SEVERAL: Final = 3
#: Of one kind that are told; a thousand waiting workers say the same.
_MOST: Final = 5
_ORDER: Final = {severity: place for place, severity in enumerate(Severity)}
_CAUSES_FIRST: Final = {kind: place for place, kind in enumerate(Kind)}


def judge(now: Observed, before: Sequence[Observed] = ()) -> list[Trouble]:
    """What is wrong, the worst first, causes before their effects; nothing where all is well.

    Args:
        now: the look that is judged.
        before: earlier looks, oldest first. Without them nothing is said about what changes over time.
    """
    found = [trouble for rule in _RULES for trouble in islice(rule(now, before), _MOST)]
    return sorted(found, key=lambda each: (_ORDER[each.severity], _CAUSES_FIRST[each.kind]))


Rule = Callable[[Observed, Sequence[Observed]], Iterator[Trouble]]


def _redis_away(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    if now.redis_error:
        error = now.redis_error.removeprefix(f"Redis at {now.redis_url} cannot be used: ")
        facts = {"url": now.redis_url, "error": _sentence(error)}
        yield Trouble(Kind.REDIS_AWAY, Severity.CRITICAL, _redis_command(now, "ping"), facts)


def _redis_full(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    if now.redis_error or (memory := now.memory) is None:
        return
    if memory.share >= FULL_SHARE:
        command = _redis_command(now, f"config set maxmemory {2 * memory.limit}")
        facts = {"used": memory.used, "limit": memory.limit}
        yield Trouble(Kind.REDIS_FULL, Severity.CRITICAL, command, facts)
    if memory.policy != "noeviction":
        command = _redis_command(now, "config set maxmemory-policy noeviction")
        yield Trouble(Kind.REDIS_EVICTS, Severity.CRITICAL, command, {"policy": memory.policy})


def _qdrant_away(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    if now.qdrant_error:
        command = shlex.join(["curl", f"{now.qdrant_url.rstrip('/')}/readyz"])
        facts = {"url": now.qdrant_url, "error": _sentence(now.qdrant_error)}
        yield Trouble(Kind.QDRANT_AWAY, Severity.CRITICAL, command, facts)


def _queue_full(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    if (load := now.load) is None or (marks := now.marks) is None or now.redis_error:
        return
    if load.documents >= marks.documents or load.bytes >= marks.bytes:
        model = max(now.waiting, key=lambda each: each.parcels).model if now.waiting else None
        facts = {"documents": load.documents, "bytes": load.bytes}
        facts |= {"most_documents": marks.documents, "most_bytes": marks.bytes}
        yield Trouble(Kind.QUEUE_FULL, Severity.WARNING, _worker_command(model), facts)


def _unserved(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    for each in now.waiting if not now.redis_error else ():
        if each.wanted_tokens and not each.workers:
            model = each.model or each.model_digest
            facts = {"model": model, "documents": each.documents, "oldest": _duration(each.oldest_waiting_s)}
            if each.loading:
                yield Trouble(Kind.LOADING, Severity.NOTE, "gristmill queue --watch", facts)
            else:
                yield Trouble(Kind.NO_WORKER, Severity.CRITICAL, _worker_command(model), facts)


def _nobody(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    waits = any(each.wanted_tokens for each in now.waiting)
    if not now.redis_error and now.load is not None and not now.workers and not waits:
        yield Trouble(Kind.NOBODY, Severity.WARNING, _worker_command(None))


def _hung(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    for name, status in _workers(now):
        for engine in status.get("engines", ()):
            if (seconds := _number(engine.get("batch_s"))) > HUNG_S:
                host, pid = _place(name)
                facts = {"worker": name, "model": engine.get("model"), "seconds": seconds, "host": host}
                facts |= _deadline(status, "encode_timeout_s", seconds)
                yield Trouble(Kind.HUNG, Severity.CRITICAL, f"kill -KILL {pid}", facts)


def _vanished(now: Observed, before: Sequence[Observed]) -> Iterator[Trouble]:
    """One that had nothing in hand has done no harm; and who drains is gone before it has said that it does.

    Of those who die again and again most have not lived to say what they had in hand: so many that are gone, while others
    have begun in their places, are no autoscaler's work, which starts nobody where it ends somebody.
    """
    seen: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for look in before if not now.redis_error else ():
        seen |= {name: (look.at, status) for name, status in _workers(look)}
    gone = {
        name: (now.at - at, _number(status.get("parcels")))
        for name, (at, status) in seen.items()
        if name not in now.workers and not status.get("draining") and now.at - at < _GONE_S
    }
    hosts = dict.fromkeys(_place(name)[0] for name in gone)
    begun = [name for name, status in _workers(now) if now.at - _number(status.get("started_at")) < _GONE_S]
    again = any(_place(name)[0] in hosts for name in begun)
    if len(gone) >= _SEVERAL and (again or sum(parcels > 0 for _, parcels in gone.values()) >= _SEVERAL):
        facts: dict[str, object] = {"workers": len(gone), "seconds": _GONE_S, "host": _some(list(hosts))}
        yield Trouble(Kind.DYING, Severity.CRITICAL, "dmesg -T | grep -i 'killed process'", facts)
        return
    for name, (ago, parcels) in gone.items():
        if not parcels:
            continue
        facts = {"worker": name, "ago": ago, "host": _place(name)[0], "parcels": parcels}
        facts |= _deadline(seen[name][1], "lease_s", ago)
        yield Trouble(Kind.VANISHED, Severity.WARNING, "gristmill health --live", facts)


def _waiting(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    """Each thing that is waited for once, with who waits. What is told as away already is not told as waited for."""
    waiting: dict[str, list[str]] = {}
    for name, status in _workers(now):
        for notice in _distinct(list(map(str, status.get("notices") or ()))):
            waiting.setdefault(notice, []).append(name)
    for notice, names in waiting.items():
        if not (now.qdrant_error and "Qdrant" in notice):
            facts = {"worker": _some(names), "notice": notice}
            yield Trouble(Kind.WAITING, Severity.WARNING, _notice_command(notice), facts)


def _distinct(notices: Sequence[str]) -> Iterator[str]:
    """Those that no other repeats with more words."""
    for place, notice in enumerate(notices):
        if not any(notice in other for other in (*notices[:place], *notices[place + 1 :]) if other != notice):
            yield notice


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def _slow_store(now: Observed, before: Sequence[Observed]) -> Iterator[Trouble]:
    then = _since(now, before, _NOW_S)
    share = activity_between(then.workers, now.workers).shares.get("store", 0.0) if then else 0.0
    # Who has a parcel now and then waits for its store, too, and nobody waits for him.
    backlog = now.load is not None and now.load.parcels > len(now.workers)
    if not now.qdrant_error and (now.qdrant_s >= _SLOW_ANSWER_S or (share >= _SLOW_SHARE and backlog)):
        command = shlex.join(["curl", "-s", f"{now.qdrant_url.rstrip('/')}/metrics"])
        facts = {"ms": now.qdrant_s * 1000, "share": share}
        yield Trouble(Kind.SLOW_STORE, Severity.WARNING, command, facts)


def _dead(now: Observed, before: Sequence[Observed]) -> Iterator[Trouble]:
    if (dead := now.dead) is None or now.redis_error or not dead.letters:
        return
    if dead.share >= 1:
        facts = {"bytes": dead.bytes, "most": dead.max_bytes}
        yield Trouble(Kind.DEAD_FULL, Severity.CRITICAL, "gristmill dead summary", facts)
    fresh = [each for each in dead.groups if now.at - (each.newest_died_at or 0.0) < _NEWS_S]
    yield from _rising(now, before, fresh)
    if not fresh:
        yield Trouble(Kind.DEAD_KEPT, Severity.NOTE, "gristmill dead summary", {"letters": dead.letters})


def _rising(now: Observed, before: Sequence[Observed], fresh: Sequence[DeadGroup]) -> Iterator[Trouble]:
    then = next((each for each in before if each.dead is not None and now.at - each.at <= _LATELY_S), None)
    if now.dead is None or then is None or then.dead is None or now.dead.letters <= then.dead.letters:
        return
    if (most := max(fresh, key=lambda each: each.letters, default=None)) is not None:
        facts = {
            "rise": now.dead.letters - then.dead.letters,
            "minutes": max(1.0, (now.at - then.at) / 60),
            "letters": now.dead.letters,
            **_of_group(most),
        }
        yield Trouble(Kind.DEAD_RISING, Severity.WARNING, "gristmill dead summary", facts)


def _poison(now: Observed, _: Sequence[Observed]) -> Iterator[Trouble]:
    for each in now.dead.groups if now.dead and not now.redis_error else ():
        if now.at - (each.newest_died_at or 0.0) < _NEWS_S:
            command = shlex.join(["gristmill", "dead", "list", "-c", each.collection, "-e", each.error])
            yield Trouble(Kind.POISON, Severity.WARNING, command, {"letters": each.letters, **_of_group(each)})


_RULES: Final[tuple[Rule, ...]] = (
    _redis_away,
    _redis_full,
    _qdrant_away,
    _queue_full,
    _unserved,
    _nobody,
    _hung,
    _vanished,
    _waiting,
    _slow_store,
    _dead,
    _poison,
)


def _since(now: Observed, before: Sequence[Observed], seconds: float) -> Observed | None:
    """The newest look that is so old; else the oldest."""
    return next((each for each in reversed(before) if now.at - each.at >= seconds), before[0] if before else None)


def _workers(look: Observed) -> Iterator[tuple[str, Any]]:
    """None where Redis is away: what is known of them is as old as that."""
    return iter(look.workers.items() if not look.redis_error else ())


def _place(worker: str) -> tuple[str, str]:
    """Host and process id out of a worker's name, `host:pid:random`."""
    found = re.fullmatch(r"(.+):(\d+):\w+", worker)
    return (found[1], found[2]) if found else (worker, "PID")


def _deadline(status: Mapping[str, Any], setting: str, since_s: float) -> dict[str, object]:
    """A setting of a worker's with its value, seconds, and how much of that is left."""
    name = f"GRISTMILL_{setting.upper()}"
    if not (most := _number((status.get("settings") or {}).get(setting))):
        return {"setting": name, "left": "?"}
    return {"setting": f"{name}={most:g}", "left": _duration(max(0.0, most - since_s))}


def _redis_command(now: Observed, said: str) -> str:
    # Without its password an address lets nobody in; and redis-cli knows two kinds of them.
    if not now.redis_url.startswith(("redis://", "rediss://")) or HIDDEN in now.redis_url:
        return f'redis-cli -u "$GRISTMILL_REDIS_URL" {said}'
    return f"redis-cli -u {shlex.quote(now.redis_url)} {said}"


def _worker_command(model: str | None) -> str:
    return shlex.join(["gristmill", "worker", *(("--model", model) if model else ())])


def _notice_command(notice: str) -> str:
    if "dead letters" in notice:
        return "gristmill dead summary"
    return "gristmill doctor"


def _of_group(group: DeadGroup) -> dict[str, object]:
    return {"collection": group.collection, "error": group.error, "reason": _sentence(group.reason)}


def _sentence(said: str) -> str:
    text = " ".join(said.split())
    return text if not text or text.endswith((".", "!", "?", "。")) else f"{text}."


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
