"""`gristmill doctor`: is everything here, does it answer, and what to do if not."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import redis
import typer
from rich.table import Table

from gristmill import ClientSettings, DeadSummary, __version__
from gristmill.cli.dead import of_mark
from gristmill.cli.layout import Mark, counted, fields, moment
from gristmill.cli.output import JsonFlag, console, print_json, said, say
from gristmill.cli.queue.commands import name_of, unserved
from gristmill.extras import brought_by
from gristmill.ingest.hearing import require_hearing
from gristmill.ingest.queue import queue_report
from gristmill.ledger import Ledger, RedisLedger
from gristmill.ledger.connection import broker_errors, connect
from gristmill.ledger.reading import MAX_REFUSED, RedisEvidence
from gristmill.maintenance.troubles import Kind, Observed, judge
from gristmill.probes.health import probe
from gristmill.search.query_channel import query_queue
from gristmill.settings import load_settings, mistyped, provenance
from gristmill.store.collections import Collections
from gristmill.store.connection import describe_transport, open_store, require_server
from gristmill_schemas.errors import GristmillError, InvalidInput, NotInstalled
from gristmill_schemas.redaction import redact

app = typer.Typer()

PACKAGES = ("gristmill", "celery", "kombu", "redis", "qdrant-client", "pydantic", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str


#: What a package may add: a function of the model option that yields checks, and its settings class.
MoreChecks = Callable[[str | None], Iterator[Check]]


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="Also load this model and check it against known scores.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check broker, store, workers and settings; say what to do.

    Shows every setting and where it came from.
    """
    settings = _settings()
    checks = list(_checks(settings, model))
    rows = provenance(settings)
    healthy = all(check.ok for check in checks)
    if as_json:
        print_json(
            {"ok": healthy, "checks": [asdict(check) for check in checks], "settings": rows, "versions": _versions()}
        )
    else:
        show_checks(checks)
        show_settings(rows, _versions())
    if not healthy:
        raise typer.Exit(1)


@app.command()
def health(
    live: Annotated[
        bool, typer.Option("--live", help="Ask only whether each process moves; depends on no server.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether each worker is warm and takes work (default).")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Probe this machine's workers: do they move, do they take work?

    For containers and clusters: costs next to nothing, and ends with 0 for yes, 1 for no.
    """
    if live and ready:
        raise InvalidInput("--live and --ready: expected one of them, got both; probe twice to know both")
    raise typer.Exit(probe(live=live, as_json=as_json))


def show_checks(checks: Sequence[Check]) -> None:
    """Findings for people; a long one goes on below itself."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        grid.add_row("[green]ok[/]" if check.ok else "[bold red]FAIL[/]", said(check.name), said(check.detail))
    console.print(grid)


def show_settings(rows: Sequence[Mapping[str, str]], versions: Mapping[str, str]) -> None:
    """Settings, as `provenance` gives them, and versions for people."""
    say("\n[bold]settings[/] (what they mean: docs/reference/settings.md, or --json)")
    fields((row["name"], _value(row)) for row in rows)
    say("\n[bold]versions[/]")
    fields(versions)


def _value(row: Mapping[str, str]) -> Mark:
    source = "" if row["source"] == "default" else f" [dim]({said(row['source'])})[/]"
    return Mark(f"{said(row['value'] or '-')}{source}")


def _settings() -> ClientSettings:
    """The widest settings class that is installed: the worker's knows more variables."""
    for entry in importlib.metadata.entry_points(group="gristmill.settings"):
        try:
            cls: type[ClientSettings] = entry.load()
        except ImportError:
            continue
        return load_settings(cls)
    return load_settings(ClientSettings)


def _checks(settings: ClientSettings, model: str | None) -> Iterator[Check]:
    yield from (Check("variables", False, sentence) for sentence in mistyped())
    with closing(connect(settings)) as client:
        ledger = RedisLedger(settings, client)
        yield _guarded("redis", lambda: _redis(settings, ledger))
        yield _guarded("policy", lambda: _redis_policy(client))
        yield _guarded("letters", lambda: _letters(settings, ledger))
        yield _guarded("refused", lambda: _refused(ledger))
        yield _guarded("workers", lambda: check_workers(ledger))
        yield _guarded("devices", lambda: check_devices(ledger))
        yield _guarded("queue", lambda: _queue(ledger))
        yield _guarded("queries", lambda: _queries(settings, client, ledger))
        yield _guarded("webhooks", lambda: _webhooks(ledger))
        yield _guarded("broker", lambda: _broker(settings, client, ledger))
    yield _guarded("qdrant", lambda: _qdrant(settings))
    yield _guarded("bulk", lambda: _bulk(settings))
    for entry in importlib.metadata.entry_points(group="gristmill.checks"):
        try:
            with brought_by("worker", "encoding"):
                more: MoreChecks = entry.load()
            yield from more(model)
        except NotInstalled as broken:  # where it is merely missing, this machine is one that searches
            yield Check("worker", broken.name is not None, f"this machine can only search: {broken}")


def _guarded(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except GristmillError as error:
        return Check(name, False, str(error))


def _redis(settings: ClientSettings, ledger: Ledger) -> str:
    load = ledger.load()
    waiting = f"{counted(load.documents, 'document')} waiting, {counted(load.bytes, 'byte')}"
    return f"{redact(settings.redis_url)}: {waiting}"


def _qdrant(settings: ClientSettings) -> str:
    with closing(open_store(settings)) as store:
        return f"{redact(settings.qdrant_url)}, version {require_server(store)}, {describe_transport(settings)}"


def _bulk(settings: ClientSettings) -> str:
    """Collections whose index is put off; workers see to those that nobody loads any more."""
    with closing(open_store(settings)) as store:
        loads = [(spec.name, spec.bulk_since) for spec in Collections(store).list() if spec.bulk_since is not None]
    if not loads:
        return "no collection is in a bulk load"
    told = ", ".join(f"{name} since {moment(since)}" for name, since in loads)
    return f"searches are slow in {told}; `gristmill collections finish-bulk NAME` ends it"


def _redis_policy(client: redis.Redis) -> str:
    """Redis must never evict: an evicted parcel is a lost document."""
    try:
        info: Mapping[str, Any] = client.info()
    except redis.exceptions.NoPermissionError:
        return "not looked at: this user may not ask INFO. Redis needs `maxmemory-policy noeviction` and an append-only file"
    except redis.RedisError as error:
        raise GristmillError(f"not looked at: {error}") from error
    policy = info.get("maxmemory_policy", "unknown")
    if policy not in ("noeviction", "unknown"):
        raise GristmillError(f"Redis may throw work away: set `maxmemory-policy noeviction` (it is {policy})")
    durable = "AOF on" if info.get("aof_enabled") else "AOF off: what is queued does not survive a restart of Redis"
    return f"{policy}, {durable}"


def _letters(settings: ClientSettings, ledger: Ledger) -> str:
    """At their mark, dead letters stop all work."""
    load = ledger.load()
    summary = DeadSummary(letters=load.dead_letters, bytes=load.dead_bytes, max_bytes=settings.dead_max_bytes)
    if summary.share >= 1:
        raise GristmillError(
            f"{of_mark(summary)}: workers take no work; see `gristmill dead summary`, then replay or drop some, or raise "
            "GRISTMILL_DEAD_MAX_BYTES"
        )
    return f"{of_mark(summary)}: `gristmill dead summary` says why" if summary.letters else "no dead letters"


def _refused(ledger: RedisLedger) -> str:
    evidence = RedisEvidence(ledger)
    messages, parcels = evidence.refused(MAX_REFUSED), evidence.unreadable()
    if not messages and not parcels:
        return "no message was refused"
    found = f"{counted(len(messages), 'message')} and {counted(len(parcels), 'parcel')}"
    return f"{found} none of ours: `gristmill dead refused` lists them"


def _broker(settings: ClientSettings, client: redis.Redis, ledger: Ledger) -> str:
    """Whether messages that leave here reach whoever is there to take them."""
    return require_hearing(settings, client, ledger.workers) if ledger.workers() else "not looked at: nobody would hear"


def check_workers(ledger: Ledger) -> str:
    """Who they are, what each serves and waits for; and which versions run beside one another.

    Raises:
        GristmillError: there is none.
    """
    workers = ledger.workers()
    if not workers:
        raise GristmillError("no worker is running; start one: `gristmill worker`")
    told = [_worker(name, status) for name, status in workers.items()]
    versions = Counter(str(status.get("version", "an unknown version")) for status in workers.values())
    if set(versions) != {__version__}:
        beside = ", ".join(f"{counted(versions[each], 'worker')} of {each}" for each in sorted(versions))
        told.append(f"not all is of one version: {beside}, {__version__} here; finish the upgrade, workers first")
    return "; ".join(told)


def _queue(ledger: Ledger) -> str:
    """Work that nobody will ever take stands still without a word."""
    queues = [each for each in queue_report(ledger).models if each.documents]
    if left := [warning for each in queues if (warning := unserved(each)) is not None]:
        raise GristmillError("; ".join(left))
    told = (f"{counted(each.documents, 'document')} for {name_of(each)}" for each in queues)
    return ", ".join(told) or "nothing waits"


def check_devices(ledger: Ledger) -> str:
    """Whether none hangs, which its worker's heartbeat does not stop for.

    Raises:
        GristmillError: which does, and how to end it.
    """
    found = judge(Observed(at=ledger.now(), workers=ledger.workers()))
    if hung := [each for each in found if each.kind is Kind.HUNG]:
        raise GristmillError("; ".join(f"{each.what()} {each.why()} `{each.command}`" for each in hung))
    return "no batch has been on one for long"


def _queries(settings: ClientSettings, client: redis.Redis, ledger: Ledger) -> str:
    """What waits for each model now, and what became of those before, since its workers' start."""
    fates: dict[tuple[str, str], Counter[str]] = {}
    for status in ledger.workers().values():
        for each in status.get("engines", ()):  # type: ignore[attr-defined]  # a list, as `Host.status` says
            counts = fates.setdefault((each["model"], each.get("model_digest", "")), Counter())
            counts.update(each.get("queries", {}))
    with broker_errors(settings.redis_url):
        told = [
            f"{model}: {client.llen(query_queue(settings.key_prefix, digest))} waiting, {_fates(fate)}"
            for (model, digest), fate in sorted(fates.items())
        ]
    return "; ".join(told) or "not looked at: nobody would answer them"


def _webhooks(ledger: Ledger) -> str:
    """What is not delivered, and what became of those before, since the workers' start."""
    counts: Counter[str] = Counter()
    for status in ledger.workers().values():
        told = status.get("webhooks")
        numbers = told.items() if isinstance(told, dict) else ()
        counts.update({name: n for name, n in numbers if isinstance(n, int) and not isinstance(n, bool)})
    left = ledger.webhooks.count()
    more = f"; {left:,} not delivered: `gristmill webhooks list`" if left else ""
    since = ", ".join(f"{counts[name]:,} {name}" for name in ("delivered", "retried", "failed"))
    return f"{since} since the start of the workers{more}"


def _fates(fate: Mapping[str, int]) -> str:
    counts = ", ".join(
        f"{fate[name]:,} {name.replace('_', ' ')}" for name in ("answered", "expired", "refused", "given_back")
    )
    late = "; those that expired came too late: start more workers, or raise GRISTMILL_QUERY_TIMEOUT_S"
    return f"{counts} since the start of its workers{late if fate['expired'] else ''}"


def _worker(name: str, status: Mapping[str, Any]) -> str:
    if loading := ", ".join(str(each.get("model")) for each in status.get("loading", ())):
        return f"{name} loads {loading} since {moment(status.get('since'))}"
    served = ", ".join(f"{each.get('model')} on {each.get('device')}" for each in status.get("engines", [status]))
    waits = status.get("notices") or [status[key] for key in ("waiting_for",) if status.get(key)]
    return f"{name} serves {served}" + "".join(f"; waiting: {each}" for each in waits)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
