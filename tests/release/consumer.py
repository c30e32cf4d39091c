"""What an application writes, for type checkers: they read the installed wheel, not this tree."""

from __future__ import annotations

from gristmill import AsyncClient, AuditReport, Client, Document, JobReport, SearchHit
from gristmill_schemas import Parcel
from gristmill_schemas.parcel import pack


def ingest(client: Client, texts: dict[str, str]) -> int:
    client.create_collection("faq", model="Qwen/Qwen3-Embedding-0.6B")
    report: JobReport = client.enqueue("faq", [Document(id=key, text=text) for key, text in texts.items()]).wait(60)
    return report.stored + report.skipped


def ask(client: Client) -> list[str]:
    hits: list[SearchHit] = client.search("faq", "用了优惠券但没减钱", limit=3, where={"lang": "zh"}, mode="hybrid")
    return [f"{hit.score:.2f} {hit.id} {hit.text}" for hit in hits]


async def ask_many(client: AsyncClient) -> int:
    found = await client.search_many("faq", ["one", "two"], instruction="Find the answer")
    return sum(len(hits) for hits in found)


def audit(client: Client) -> AuditReport:
    return client.tenant("acme").audit("faq", repair=True)


def body_of(parcel: Parcel) -> bytes:
    return pack(parcel)
