"""What Gristmill writes where another version may read it: one record of each kind, with every field set.

`python tests/golden_records.py` writes them to `tests/golden/VERSION/`, once for each release, and never again: from then on
the files are that release, and `tests/unit/golden/` has newer code read them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gristmill_schemas import (
    BulkHolder,
    BulkLoad,
    ChunkBy,
    ChunkContext,
    Chunking,
    CollectionSpec,
    DeadLetter,
    Deletion,
    Document,
    EncoderInfo,
    Intent,
    JobFinished,
    JobReport,
    JobState,
    Lens,
    Parcel,
    PointSystem,
    Pooling,
    QueryRequest,
    RefusedMessage,
    RerankRequest,
    Retraction,
    Templates,
)
from gristmill_schemas.collection import IndexSettings
from gristmill_schemas.parcel import pack
from gristmill_schemas.query import Status, pack_answer, pack_failure
from gristmill_schemas.stored import Stored

FOLDER = Path(__file__).parent / "golden"
TOKEN = "0123456789abcdef" * 2
_DOCUMENT = Document(
    id="用户-42", text="满减券不生效怎么办？", metadata={"lang": "zh", "n": [1, {"x": None}]}, version=7, tenant="acme"
)
_INFO = EncoderInfo(
    model="Qwen/Qwen3-Embedding-0.6B",
    revision="c54f2e6e80b2d7b7de06f51cec4959f6b3e03418",
    digest="qwen3-0123456789abcdef",
    pooling=Pooling.LAST,
    dimensions=1024,
    min_dimensions=32,
    matryoshka_dimensions=(256, 512, 1024),
    max_tokens=32768,
    templates=Templates(query_instructed="Instruct: {instruction}\nQuery:{text}"),
    instruction_aware=True,
)
_PARCEL = Parcel(
    id="89abcdef01234567.3",
    job_id="89abcdef01234567",
    collection="faq",
    collection_key="faq-2026@00112233445566ff",
    model_digest=_INFO.digest,
    documents=(_DOCUMENT, Document(id="b", text="plain")),
    deletions=(Deletion(id="gone", tenant="acme", version=9),),
    version=1_795_714_333_067_589,
    enqueued_at=1_795_714_333.067589,
)
_CONTENTS = (("e7a1" * 8, 7), ("0b5c" * 8, 1_795_714_333_067_589))

RECORDS: dict[str, Stored] = {
    "announcement": _INFO,
    "parcel": _PARCEL,
    "intent": Intent(
        token=TOKEN,
        parcel_id=_PARCEL.id,
        collection="faq-2026",
        key=_PARCEL.collection_key,
        job_id=_PARCEL.job_id,
        documents=(("用户-42", "acme"), ("b", None)),
        contents=_CONTENTS,
    ),
    "retraction": Retraction(
        id="r-1", token=TOKEN, collection="faq-2026", key=_PARCEL.collection_key, job_id="j", contents=_CONTENTS
    ),
    "dead_letter": DeadLetter(
        id=f"{_PARCEL.id}-0",
        job_id=_PARCEL.job_id,
        collection="faq",
        collection_key=_PARCEL.collection_key,
        model_digest=_INFO.digest,
        document=_DOCUMENT,
        version=7,
        error="TextTooLong",
        reason="text: expected at most 512 tokens, got 9,000",
        attempts=2,
        enqueued_at=_PARCEL.enqueued_at,
        died_at=1_795_714_340.5,
    ),
    "point": PointSystem(
        id="用户-42",
        tenant="acme",
        version=7,
        chunk=1,
        chunks=3,
        span=(100, 220),
        context="优惠券 › 满减券",
        text_hash="a3" * 16,
        etag="e7a1" * 8,
        space="1b8376e739e17b3d",
        job=_PARCEL.job_id,
        stored_at=1_795_714_334.25,
        truncated=True,
        tokens=311,
        attempts=2,
    ),
    "collection": CollectionSpec(
        name="faq",
        physical="faq-2026",
        incarnation="00112233445566ff",
        space=_INFO.space(512),
        text_key="body",
        chunking=Chunking(size=256, overlap=16, by=ChunkBy.MARKDOWN, context=ChunkContext.HEADINGS),
        keyword=True,
        tenants=True,
        lenses=(Lens(name="legal", document="Represent the legal risk", query="Find the legal risk"),),
    ),
    "bulk_holder": BulkHolder(id="h", since=1.5, until=9.5, host="gpu-1", machine="m", pid=42),
    "bulk_load": BulkLoad(since=1.5, before=IndexSettings(indexing_threshold=10_000, m=16, vectors={"legal": 8})),
    "query": QueryRequest(
        token=TOKEN,
        model_digest=_INFO.digest,
        dimensions=512,
        texts=("Instruct: x\nQuery:用了优惠券但没减钱",),
        deadline_us=1_795_714_333_067_589,
        asked_us=1_795_714_323_067_589,
    ),
    "rerank": RerankRequest(
        token=TOKEN,
        model_digest="reranker-01",
        query="没减钱",
        instruction="Find the answer",
        documents=("一", "二"),
        deadline_us=1_795_714_333_067_589,
        asked_us=1_795_714_323_067_589,
    ),
    "refused_message": RefusedMessage(reason="no task of ours", queue="q", message="\\x80", refused_at=1.5),
    "webhook": JobFinished(
        timestamp=datetime(2026, 11, 26, 12, 0, tzinfo=UTC),
        data=JobReport(
            job_id=_PARCEL.job_id,
            collection="faq",
            state=JobState.DONE,
            tenant="acme",
            accepted=3,
            stored=2,
            deleted=1,
            tokens=311,
            chunks=4,
            created_at=1_795_714_333.0,
            seconds=1.25,
        ),
    ),
}
#: What is not JSON, in hex. The parcel's zlib form may differ from build to build; what it inflates to may not.
BYTES = {
    "parcel": pack(_PARCEL),
    "answer": pack_answer(bytes(range(16)), 2, 2),
    "failure": pack_failure("model: 拒绝", Status.REFUSED),
}
#: What a worker says in its heartbeat: nobody's record, so readers take what they know and pass over the rest.
STATUS: dict[str, Any] = {
    "state": "ready",
    "since": 1_795_714_300.5,
    "started_at": 1_795_714_290.25,
    "draining": False,
    "parcels": 3,
    "waiting_for": None,
    "notices": [],
    "loading": [{"model": "BAAI/bge-m3", "model_digest": "bge-m3-01"}],
    "webhooks": {"sends": True},
    "engines": [{"model": _INFO.model, "model_digest": _INFO.digest, "tokens_per_s": 41_000.5, "device": "cuda"}],
}


def written(record: Stored) -> dict[str, Any]:
    """A record as it is stored: with every field, the defaults included."""
    value: dict[str, Any] = record.model_dump(mode="json")
    return value


def main(version: str) -> None:
    """Write the files of a release; what is there stays."""
    folder = FOLDER / version
    folder.mkdir(parents=True)
    records = {name: written(record) for name, record in RECORDS.items()}
    files = {**records, "status": STATUS, "bytes": {name: body.hex() for name, body in BYTES.items()}}
    for name, value in files.items():
        text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    from importlib.metadata import version

    main(version("gristmill"))
