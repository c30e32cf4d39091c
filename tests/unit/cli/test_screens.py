"""Every screen as a picture of text, at 80 and 120 columns: no number is folded, and nothing goes beyond the edge."""

from collections.abc import Callable
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from wcwidth import wcswidth

from gristmill import (
    AuditReport,
    DeadGroup,
    DeadLetter,
    DeadSummary,
    Document,
    EncoderInfo,
    Finding,
    Gap,
    Instruction,
    JobReport,
    JobState,
    Lens,
    ModelQueue,
    Priority,
    QueuedJob,
    QueueReport,
    Receipt,
    ReceiptState,
    RefusedMessage,
    Rejection,
    SearchHit,
    StoredDocument,
)
from gristmill.cli.audit import show_audit, show_receipt
from gristmill.cli.browsing.commands import show_documents
from gristmill.cli.collections.commands import show_collection, show_collections
from gristmill.cli.collections.instructions import show_instruction, show_instructions, show_presets
from gristmill.cli.dead import show_letter, show_letters, show_refused, show_summary
from gristmill.cli.doctor import Check, show_checks, show_settings
from gristmill.cli.jobs import show_jobs
from gristmill.cli.queue.commands import show_queue
from gristmill.cli.reports import print_report
from gristmill.cli.search import show_hits
from gristmill.search.instructions import PRESETS
from gristmill_schemas import CollectionSpec, Pooling

NOW = 1_780_000_000.0
ENGLISH, CHINESE = "customer-complaints", "客户投诉与常见问题"
REASON = (
    "TextTooLong: expected at most 8192 tokens, got 31337; the collection's policy for long texts is to refuse them"
)


def report(collection: str = ENGLISH, **counters: Any) -> JobReport:
    told: dict[str, Any] = {"state": JobState.DONE, "seconds": 12.3, "created_at": NOW - 200}
    return JobReport(job_id="4f2a9c01d3e8b756", collection=collection, **told | counters)


MIXED = report(
    accepted=1500, stored=1496, skipped=3, dead=1, rejected=2, chunks=1612, tokens=341_204, truncated=2,
    reasons=(f"'42' died: {REASON}",),
)  # fmt: skip
REJECTIONS = [
    Rejection(position=17, source="docs.jsonl", id="17", reason="text: expected text to embed, got an empty string"),
    Rejection(position=18, source="文档.csv", id="十八", reason="year: expected an integer, got '二〇二四'"),
]
ONE = report(accepted=1, stored=1, chunks=1, tokens=12, seconds=0.4)
RUNNING = report(CHINESE, accepted=1_234_567, stored=1_000_000, state=JobState.RUNNING, seconds=7_500)
NOTHING = report("empty", seconds=0.1)
SPEC = CollectionSpec(
    name=CHINESE,
    physical="faq-2026-11",
    incarnation="0123456789abcdef",
    space=EncoderInfo(
        model="Qwen/Qwen3-Embedding-0.6B", revision="c54f2e6e80b2d7b7de06f51cec4959f6b3e03418", digest="ab" * 32,
        pooling=Pooling.LAST, dimensions=1024, max_tokens=8192, instruction_aware=True,
    ).space(),
    instructions=(Instruction(name="faq", text="Given a customer's complaint, find the FAQ entry that solves it"),),
    lenses=(Lens(name="legal", document="Given a contract, find what it obliges somebody to", query="preset:legal"),),
)  # fmt: skip
INSTRUCTIONS = [
    Instruction(name="faq", text="Find the answer", registered_at=NOW - 90_000, retired_at=NOW - 60),
    Instruction(name="faq", version=2, text="Given a customer's complaint, find the FAQ entry that solves it " * 3),
    Instruction(name="zh-complaint", text="给定客户的投诉，找出能够解决该问题的常见问题条目", registered_at=NOW),
]
LETTERS = [
    DeadLetter(
        id=f"9d{number}7e0aa51c42f6", job_id=MIXED.job_id, collection=collection, model_digest="ab" * 32,
        document=Document(id=document, text="太长的文本。" * 5, metadata={"lang": "zh"}), version=1_779_000_000_000_000,
        error=error, reason=REASON, attempts=3, enqueued_at=NOW - 200_000, died_at=NOW - 90_000 * number,
    )
    for number, (collection, document, error) in enumerate(
        [(ENGLISH, "orders/2026/0000042", "TextTooLong"), (CHINESE, "订单四十二", "EncodingFailed")]
    )
]  # fmt: skip
SUMMARY = DeadSummary(
    groups=(
        DeadGroup(collection=ENGLISH, error="TextTooLong", letters=1, newest_died_at=NOW - 3, reason=REASON),
        DeadGroup(collection=CHINESE, error="EncodingFailed", letters=1234, newest_died_at=NOW - 90_000, reason="坏了"),
    ),
    letters=1235, bytes=2_345_678, max_bytes=268_435_456,
)  # fmt: skip
HITS = [
    SearchHit(
        id="faq-071", score=0.8312, text="Coupons are taken off at the last step. " * 8, metadata={}, version=1,
        chunk=1, chunks=3, span=(0, 9), point_id="p",
    ),
    SearchHit(
        id="常见问题七十一", score=-0.0123, text="优惠券在最后一步抵扣。" * 12, metadata={}, version=1, span=(0, 9),
        point_id="q", lens="legal",
    ),
]  # fmt: skip
DOCUMENTS = [
    StoredDocument(
        id="faq-071", text="Coupons are taken off\nat the last step. " * 8, metadata={}, version=1, chunks=3
    ),
    StoredDocument(
        id="常见问题七十一", text="优惠券在最后一步抵扣。", metadata={}, version=1_795_690_308_488_189, whole=False
    ),
]
AUDIT = AuditReport(
    collection=CHINESE, fingerprint="f" * 32, documents=1499, points=1612, expected=1500, missing=1, leftover=2, repaired=2,
    findings=(
        Finding(gap=Gap.MISSING, id="d42", point_id="p", detail="accepted at version 7, and nothing of it is there"),
        Finding(gap=Gap.LEFTOVER, id="四十三", point_id="q", detail="chunk 5 of a document with 3", repaired=True),
    ),
)  # fmt: skip
RECEIPT = Receipt(
    collection=ENGLISH, id="orders/2026/0000042", state=ReceiptState.STORED, version=1_779_000_000_000_000,
    stored_version=1_779_000_000_000_000, fingerprint="f" * 32, chunks=2, attempts=1,
    enqueued_at=NOW - 60, stored_at=NOW - 58,
    point_ids=("6b1c7f3e-0000-5000-8000-000000000001", "6b1c7f3e-0000-5000-8000-000000000002"),
)  # fmt: skip
REFUSED = [
    RefusedMessage(
        reason="stamped_headers: expected none, got 1",
        queue="gristmill-work",
        message='{"task": "x"}',
        refused_at=NOW - 60,
    )
]
CHECKS = [
    Check("redis", True, "redis://localhost:6379/0: 1 document waiting, 1,234 bytes"),
    Check("workers", False, "no worker is running; start one: `gristmill worker`. It says what it serves when it is ready"),
]  # fmt: skip
SETTINGS = [
    {"name": "GRISTMILL_REDIS_URL", "value": "redis://:***@redis.example.com:6379/0", "source": "environment"},
    {"name": "GRISTMILL_QDRANT_API_KEY", "value": "", "source": "default"},
    {"name": "GRISTMILL_MODEL", "value": "Qwen/Qwen3-Embedding-0.6B", "source": ".env"},
]


def doctor() -> None:
    show_checks(CHECKS)
    show_settings(SETTINGS, {"python": "3.13.1", "torch": "not installed"})


QUEUE = QueueReport(
    models=(
        ModelQueue(
            model="Qwen/Qwen3-Embedding-0.6B", model_digest="ab" * 32, parcels=3_126, documents=200_064, tokens=35_211_264,
            held_parcels=24, oldest_waiting_s=260, workers=2, loading=1, tokens_per_s=1_050_000.4, seconds=33.5,
            jobs=(
                QueuedJob(job_id="4f2a9c01d3e8b756", collection=ENGLISH, documents=200_000, tokens=35_200_000, paused=True),
                QueuedJob(
                    job_id="0f2a9c01d3e8b757", collection=CHINESE, tenant="租户一", priority=Priority.HIGH, documents=64,
                    tokens=11_264,
                ),
            ),
        ),
        ModelQueue(
            model="BAAI/bge-m3", model_digest="cd" * 32, parcels=1, documents=1, tokens=12, held_parcels=0,
            oldest_waiting_s=4,
            jobs=(QueuedJob(job_id="1f2a9c01d3e8b757", collection="notes", documents=1, tokens=12),),
        ),
        ModelQueue(
            model="hash:16", model_digest="ef" * 32, parcels=0, documents=0, tokens=0, held_parcels=0, workers=1,
            seconds=0.0,
            tokens_per_s=5_000.0,
        ),
    )
)  # fmt: skip


SCREENS: dict[str, Callable[[], None]] = {
    "a job with failures": lambda: print_report(MIXED, False, REJECTIONS),
    "a job with failures, looked at later": lambda: print_report(MIXED, False),
    "a job of one document": lambda: print_report(ONE, False),
    "a running job": lambda: print_report(RUNNING, False),
    "a job of nothing": lambda: print_report(NOTHING, False),
    "jobs": lambda: show_jobs([MIXED, RUNNING, ONE], NOW),
    "no jobs": lambda: show_jobs([], NOW),
    "collections": lambda: show_collections([(SPEC, 1_234_567), (SPEC.model_copy(update={"name": ENGLISH}), 1)]),
    "no collections": lambda: show_collections([]),
    "a collection": lambda: show_collection(SPEC, 1_234_567),
    "instructions": lambda: show_instructions(CHINESE, INSTRUCTIONS),
    "no instructions": lambda: show_instructions(CHINESE, []),
    "an instruction": lambda: show_instruction(INSTRUCTIONS[1], SPEC),
    "presets": lambda: show_presets(PRESETS[2:6]),
    "dead letters": lambda: show_letters(LETTERS, NOW),
    "a dead letter": lambda: show_letter(LETTERS[1]),
    "no dead letters": lambda: show_letters([], NOW),
    "dead summary": lambda: show_summary(SUMMARY, NOW),
    "refused messages": lambda: show_refused(REFUSED, NOW),
    "hits": lambda: show_hits(HITS),
    "no hits": lambda: show_hits([]),
    "documents": lambda: show_documents(DOCUMENTS),
    "an audit": lambda: show_audit(AUDIT),
    "a receipt": lambda: show_receipt(RECEIPT),
    "doctor": lambda: doctor(),
    "a queue": lambda: show_queue(QUEUE),
    "an empty queue": lambda: show_queue(QueueReport()),
}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_looks_as_kept(terminal: Any, snapshot: SnapshotAssertion, screen: str, columns: int) -> None:
    there = terminal(columns)
    SCREENS[screen]()
    assert there.picture == snapshot
    # A command to be copied is one line, however long.
    assert [line for line in there.picture.split("\n") if wcswidth(line) > columns and "gristmill " not in line] == []


@pytest.mark.parametrize("screen", SCREENS)
def test_a_pipe_gets_no_styles_and_a_row_per_record(terminal: Any, screen: str) -> None:
    there = terminal(tty=False)
    SCREENS[screen]()
    assert "\x1b" not in there.written


def test_a_list_in_a_pipe_has_a_line_for_each(terminal: Any) -> None:
    there = terminal(tty=False)
    show_letters(LETTERS, NOW)
    assert [line.split()[0] for line in there.picture.splitlines()] == ["letter", *(each.id for each in LETTERS)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk", "big5"])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_is_readable_in_every_encoding(terminal: Any, screen: str, encoding: str) -> None:
    there = terminal(80, encoding)
    SCREENS[screen]()
    assert "?" not in there.picture
    assert [line for line in there.picture.split("\n") if wcswidth(line) > 80 and "gristmill " not in line] == []


def test_a_screen_of_ascii_only_looks_as_kept(terminal: Any, snapshot: SnapshotAssertion) -> None:
    there = terminal(80, "ascii")
    for screen in SCREENS.values():
        screen()
    assert there.picture == snapshot


def test_what_failed_is_red_and_without_colour_if_asked(terminal: Any) -> None:
    coloured = terminal()
    print_report(MIXED, False, REJECTIONS)
    assert "\x1b[1;31m1 dead\x1b[0m" in coloured.written
    assert "\x1b[1mgristmill dead list --job 4f2a9c01d3e8b756\x1b[0m" in coloured.written
    plain = terminal(no_color=True)
    print_report(MIXED, False, REJECTIONS)
    assert "31m" not in plain.written
    assert coloured.picture == plain.picture
