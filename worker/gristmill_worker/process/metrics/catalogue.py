"""Every metric: its name, type, labels, unit, meaning, and what to do about it. Makes `docs/reference/metrics.md`.

Labels have few values, all of them known beforehand: models, and words of ours. No id, no text, no collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of series."""

    #: As Prometheus has it, `_total` of a counter included.
    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    #: A sentence without its full stop, for `# HELP` and the page.
    meaning: str
    #: What it tells an operator, or what to do when it is high.
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Metrics about one thing."""

    title: str
    metrics: tuple[Metric, ...]


def _counter(name: str, labels: str, unit: str, meaning: str, remedy: str = "") -> Metric:
    return Metric(f"gristmill_{name}_total", "counter", tuple(labels.split()), unit, meaning, remedy)


def _gauge(name: str, labels: str, unit: str, meaning: str, remedy: str = "") -> Metric:
    return Metric(f"gristmill_{name}", "gauge", tuple(labels.split()), unit, meaning, remedy)


def _histogram(name: str, labels: str, unit: str, meaning: str, remedy: str = "") -> Metric:
    return Metric(f"gristmill_{name}", "histogram", tuple(labels.split()), unit, meaning, remedy)


CHAPTERS: Final = (
    Chapter(
        "What became of documents",
        (
            _counter(
                "documents",
                "model outcome",
                "documents",
                "Documents and deletions by what became of them (stored, skipped, superseded, deleted, absent, dead, gone), "
                "counted once the ledger has taken the verdict, as in a job's report",
                "`dead` rises: `gristmill dead summary`",
            ),
            _counter(
                "document_tokens",
                "model outcome",
                "tokens",
                "Tokens of documents by what became of them: of those stored as in a job's report, of others what "
                "the model "
                "read in vain",
                'useful tokens/s: `rate(…{outcome="stored"}[5m])`. '
                "`superseded` high: the same documents are enqueued again and again",
            ),
            _counter("chunks", "model", "points", "Chunks of documents that were stored"),
            _counter(
                "truncated_documents",
                "model",
                "documents",
                "Stored documents of which a part was cut off",
                "`create_collection(chunking=…)` keeps all of a text",
            ),
            _counter(
                "dead_letters",
                "model reason",
                "letters",
                "Dead letters that this worker has written, by the error's class",
                "`gristmill dead list --error REASON`, mend the cause, `gristmill dead replay`",
            ),
            _counter(
                "attempts",
                "model result",
                "parcels",
                "Attempts at parcels by how they ended: finished, returned (at no cost to the parcel), failed, "
                "split, "
                "rerouted, lost (another worker took over), unreadable",
                "`returned`: see `gristmill_waiting`. `failed`: the log says why. `lost`: threads hang for longer "
                "than "
                "GRISTMILL_LEASE_S",
            ),
            _counter(
                "retries",
                "model",
                "parcels",
                "Parcels taken that had been attempted before",
                "workers die or fail at them: `gristmill_restarts_total`, the log",
            ),
            _counter(
                "parcels_taken_over",
                "model",
                "parcels",
                "Parcels taken that another worker had in hand when it fell silent: what is left of one that was killed",
                "workers die: the kernel's log, `changes(process_start_time_seconds[15m])`; or they hang for longer than "
                "GRISTMILL_LEASE_S",
            ),
        ),
    ),
    Chapter(
        "How long it takes",
        (
            _histogram(
                "queue_wait_seconds",
                "model lane",
                "seconds",
                "From when work came until it was taken: parcels (bulk) from accepted to claimed for the first "
                "time, queries "
                "(interactive) from queued to taken, requests (http) until they are on the model",
                "more workers",
            ),
            _histogram(
                "encode_seconds",
                "model lane",
                "seconds",
                "From the first text of a caller on the model to its last vector",
                "a faster device, a smaller model, shorter chunks",
            ),
            _histogram(
                "stage_seconds",
                "model stage",
                "seconds",
                "A parcel's way by stage: describe, delete, survey, tokenize, encode (waiting for the model "
                "included), write, "
                "confirm, finish",
                "the longest says where: `tokenize` more cores, `encode` more devices, `survey`, `write`, `confirm` "
                "the store, "
                "`finish` Redis",
            ),
            _histogram(
                "store_seconds",
                "model operation",
                "seconds",
                "One request to Qdrant: read, write, change; failed ones too",
                "Qdrant: its own metrics, its disk, indexing after a load",
            ),
            _counter(
                "store_errors",
                "model error",
                "requests",
                "Requests to Qdrant that failed, by the error's class",
                "`gristmill doctor`; StoreRefused: the log says what Qdrant refused",
            ),
            _histogram(
                "broker_seconds",
                "operation",
                "seconds",
                "One call of the ledger in Redis: claim, begin, intend, finish, release, renew, heartbeat, other",
                "Redis: `SLOWLOG GET`, its disk (`appendfsync`), its load",
            ),
            _counter(
                "broker_errors",
                "error",
                "calls",
                "Calls of the ledger that failed, by the error's class",
                "`gristmill doctor`",
            ),
        ),
    ),
    Chapter(
        "The model and its batches",
        (
            _counter("texts", "model lane", "texts", "Texts encoded, or documents scored"),
            _counter("tokens", "model lane", "tokens", "Tokens that the model read, padding left out"),
            _counter(
                "batches",
                "model lane",
                "batches",
                "Batches by lane; short requests go with queries, long ones with parcels",
            ),
            _histogram(
                "batch_fill_ratio",
                "model",
                "ratio",
                "What a batch of parcels held of what it could have held",
                "low, while work waits: more GRISTMILL_THREADS; low otherwise is no work",
            ),
            _counter(
                "batch_tokens",
                "model kind",
                "tokens",
                "Tokens of batches of parcels: useful, padding, and budget, which is what they could have held",
                "fill: useful ÷ budget; padding stays 0 where batches are packed",
            ),
            _counter(
                "idle_seconds",
                "model cause",
                "seconds",
                "Seconds in which the model had nothing to do: no_work, tokens (it waited for the tokenizer), store "
                "(for Qdrant, slow or away), model_server and broker (away)",
                "`tokens`: more cores, or a `tokenize` stage that is slow; `store`, `model_server`, `broker`: that server; "
                "`no_work`: fewer workers",
            ),
            _counter(
                "busy_seconds",
                "model",
                "seconds",
                "Seconds in which it had",
                "more than 0.9 per second and work waits: more workers",
            ),
            _gauge(
                "batch_running_seconds",
                "model",
                "seconds",
                "How long the batch that is on the model has been there; 0 while none is",
                "minutes: the device hangs; the process ends itself after GRISTMILL_ENCODE_TIMEOUT_S, `nvidia-smi` "
                "shows the device",
            ),
            _gauge(
                "encode_timeout_seconds",
                "",
                "seconds",
                "The process ends itself, to be started again, when a batch takes longer (GRISTMILL_ENCODE_TIMEOUT_S)",
            ),
            _gauge("texts_queued", "model", "texts", "Texts in this process that wait for the model"),
            _gauge(
                "tokens_rate",
                "model",
                "tokens/s",
                "Useful tokens per second of work, as measured by full batches; absent before that",
            ),
            _gauge(
                "batch_budget_tokens",
                "model",
                "tokens",
                "Most tokens of a batch now",
                "less than at the start: memory ran out",
            ),
            _gauge(
                "model_sick",
                "model",
                "0/1",
                "Whether the device gives nonsense or nothing; the process ends and starts again",
            ),
        ),
    ),
    Chapter(
        "Queries",
        (
            _counter(
                "queries",
                "model result",
                "queries",
                "Queries of the query lane: answered, expired, refused, given_back",
                "`expired`: they waited too long; more workers, or GRISTMILL_QUERY_TIMEOUT_S",
            ),
            _histogram("query_seconds", "model", "seconds", "From a query's being taken to its vectors, or scores"),
        ),
    ),
    Chapter(
        "This worker",
        (
            _gauge(
                "live",
                "",
                "0/1",
                "What `gristmill health --live` and /healthz say of this process",
                "0: end it, and it starts again",
            ),
            _gauge(
                "ready",
                "",
                "0/1",
                "What `gristmill health --ready` and /readyz say of this process",
                "/readyz says why not",
            ),
            _gauge("draining", "", "0/1", "Whether it ends: it takes nothing more"),
            _gauge(
                "waiting",
                "cause",
                "0/1",
                "What it waits for or holds back: broker, broker_full (7/8 of Redis's memory are used, so producers wait), "
                "store, model_server, device (a batch takes longer than 30 s), collection (one that is not there), "
                "alike (documents "
                "fail in a row and alike, so none is given up), dead_letters (at their mark), model (one is not "
                "served), queries "
                "(late, or given back), bulk_load, version (a newer Gristmill wrote it), webhooks",
                "`gristmill doctor` says it in a sentence with the way out; /readyz where it takes no work for it",
            ),
            _gauge("parcels_held", "", "parcels", "Parcels in work"),
            _gauge(
                "task_threads",
                "model",
                "threads",
                "Threads at work for a model",
                "at GRISTMILL_THREADS all the time: `gristmill_stage_seconds` says what they wait for",
            ),
            _gauge(
                "phase",
                "phase",
                "0/1",
                "What a start is at: importing, fetching, looking, reading, loading, checking, measuring, warming",
                "minutes of `fetching`: a slow hub; keep models in a volume",
            ),
            _counter("phase_seconds", "phase", "seconds", "Seconds of this process's start by phase"),
            _counter(
                "restarts",
                "cause",
                "processes",
                "Times that its supervisor has started this process again: hung (a batch did not end), sick (the "
                "device), broken (a "
                "thread died), killed (by a signal: out of memory, or a document that crashes it), again (to serve "
                "a model that "
                "came back), error",
                "`killed`: the kernel's log, then `gristmill dead summary`; `hung`, `sick`: the device. It counts what a "
                "supervisor of Gristmill's restarts; under systemd or Kubernetes see `process_start_time_seconds`",
            ),
            _counter(
                "cache_lookups",
                "model cache result",
                "lookups",
                "Looks into caches: `collections`, what a collection is; hit, miss",
            ),
            _gauge("build_info", "version python torch transformers celery", "1", "Versions; the value is 1"),
            _gauge("model_info", "model digest device dtype", "1", "What is served; the value is 1"),
        ),
    ),
    Chapter(
        "What waits, as every worker reads it from the ledger every five seconds",
        (
            _gauge(
                "queue_depth",
                "model digest lane",
                "parcels, queries",
                "What waits and nobody has in hand: parcels (bulk), queries (interactive)",
                "more workers; `gristmill queue` says for whom",
            ),
            _gauge(
                "queue_oldest_seconds",
                "model digest lane",
                "seconds",
                "Age of the oldest parcel (bulk) that a worker would be given now, and of the query (interactive) that is "
                "taken next; 0 where none waits",
                "grows while depth stays: nobody takes work; see gristmill_queue_workers and gristmill_waiting",
            ),
            _gauge("queue_parcels", "model digest", "parcels", "Unfinished parcels, waiting or in hand"),
            _gauge("queue_held_parcels", "model digest", "parcels", "Those in workers' hands"),
            _gauge("queue_documents", "model digest", "documents", "Unfinished documents, waiting or in hand"),
            _gauge("queue_tokens", "model digest", "tokens", "Their tokens, as estimated when they were enqueued"),
            _gauge(
                "queue_work_seconds",
                "model digest",
                "seconds",
                "How long that will take: tokens by the rate of all workers that serve or load the model, as measured",
                "scale on it: `/scale` and the Redis list say the same to KEDA",
            ),
            _gauge(
                "queue_workers",
                "model digest state",
                "workers",
                "Workers of the model: serving, loading",
                "0 with work waiting: `gristmill worker --model MODEL`",
            ),
        ),
    ),
    Chapter(
        "Webhooks, at the one worker that sends them",
        (
            _counter("webhooks_delivered", "", "webhooks", "Webhooks that their receivers have"),
            _counter(
                "webhooks_retried",
                "reason",
                "attempts",
                "Attempts that came to nothing, and are made again: address (none that may be sent to), connection, "
                "timeout, protocol (no HTTP), or by the receiver's answer 3xx, 4xx, 5xx",
                "rises: `gristmill webhooks list` says where to, and what came of it",
            ),
            _counter(
                "webhooks_given_up",
                "reason",
                "webhooks",
                "Webhooks that are not sent any more, by their last attempt",
                "rises: mend the receiver, then `gristmill webhooks resend --failed`",
            ),
        ),
    ),
    Chapter(
        "The ledger, as every worker reads it every five seconds",
        (
            _gauge("ledger_parcels", "", "parcels", "Unfinished parcels of all models"),
            _gauge("ledger_documents", "", "documents", "Unfinished documents of all models"),
            _gauge("ledger_bytes", "", "bytes", "Memory that unfinished parcels and remembered jobs take"),
            _gauge(
                "ledger_limit_bytes",
                "",
                "bytes",
                "Above it producers wait (GRISTMILL_QUEUE_MAX_BYTES)",
                "ledger_bytes near it: more workers; producers wait, or get QueueFull",
            ),
            _gauge(
                "webhooks_undelivered",
                "",
                "webhooks",
                "Webhooks that wait to be sent, or were given up and are kept",
                "stays above 0: `gristmill webhooks list`",
            ),
            _gauge("tenants_waiting", "", "tenants", "Tenants that have unfinished work"),
            _gauge(
                "tenants_limited",
                "",
                "tenants",
                "Of whom something was refused within the last minute, since they have as much waiting as they may",
                "not 0: `gristmill queue` names them, `gristmill tenants list` says how much each has and may; "
                "`gristmill tenants limit` allows more",
            ),
            _gauge("broker_memory_bytes", "", "bytes", "Memory that Redis uses, where its user may ask"),
            _gauge(
                "broker_memory_limit_bytes",
                "",
                "bytes",
                "Its `maxmemory`, where it has one",
                "used above 7/8 of it: Redis is full for producers; raise `maxmemory`, drop dead letters",
            ),
            _gauge(
                "dead_letters_kept",
                "reason",
                "letters",
                "Dead letters that are kept, by the error's class",
                "`gristmill dead summary`",
            ),
            _gauge("dead_letter_bytes", "", "bytes", "Memory that they take"),
            _gauge(
                "dead_letter_limit_bytes",
                "",
                "bytes",
                "Their mark (GRISTMILL_DEAD_MAX_BYTES)",
                "reached: no work is taken; replay or drop some",
            ),
            _gauge(
                "ledger_read_age_seconds",
                "",
                "seconds",
                "Since these were read",
                "more than 30: Redis is away or hangs; they are as they were",
            ),
        ),
    ),
    Chapter(
        "HTTP, with `--serve` and of `gristmill serve`",
        (
            _counter("requests", "path status", "requests", "Requests that were answered; 499: the client had gone"),
            _histogram("request_seconds", "path", "seconds", "From a request's head to the end of its answer"),
            _gauge("requests_in_flight", "", "requests", "Requests that are not answered yet"),
            _gauge("texts_waiting", "", "texts", "Texts of requests that wait for a model, or are on it"),
        ),
    ),
    Chapter(
        "The process, by the names that every exporter has for it",
        (
            Metric("process_cpu_seconds_total", "counter", (), "seconds", "CPU, of user and system"),
            Metric(
                "process_resident_memory_bytes",
                "gauge",
                (),
                "bytes",
                "Memory in RAM",
                "grows for hours: report it, with the log",
            ),
            Metric("process_virtual_memory_bytes", "gauge", (), "bytes", "Memory that is mapped"),
            Metric(
                "process_start_time_seconds",
                "gauge",
                (),
                "seconds",
                "When it began, since 1970",
                "`changes(process_start_time_seconds[15m])` above 0: it is started again and again; see "
                "`gristmill_restarts_total`, or what systemd or Kubernetes say",
            ),
            Metric("process_open_fds", "gauge", (), "files", "Open files and connections"),
            Metric("process_max_fds", "gauge", (), "files", "Most that it may have"),
        ),
    ),
)


METRICS: Final = {metric.name: metric for chapter in CHAPTERS for metric in chapter.metrics}
