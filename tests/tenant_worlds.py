"""Two mills that are asked the same, one with another tenant in it and one without; and all that may be asked of them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel
from qdrant_client import models

from gristmill import (
    AuditReport,
    Chunking,
    Client,
    Clustering,
    DeadLetter,
    Document,
    GristmillError,
    Hits,
    LongTexts,
    SearchHit,
    TenantClient,
    TenantJob,
)
from gristmill_schemas import point_id

#: Collections: one that keeps tenants apart, has a lens and cuts texts; and one where a tenant is something one may have.
SHARED, OPEN = "shared", "open"
SECRET = "xyzzy"
LONG = "word " * 9000
IN_CHUNKS = " ".join(f"plan{n}" for n in range(40))
_LENS = {"legal": {"document": "Given a plan, find what it obliges somebody to", "query": "faq@1"}}


class World:
    """A mill that two share, or that one has alone."""

    def __init__(self, client: Client, *tenants: str, prefix: str = "") -> None:
        """`prefix`: of its collections' names, which answers are compared without."""
        self.client, self.prefix = client, prefix
        self.mine = client.tenant("acme")
        self.jobs: dict[str, str] = {}
        cut = Chunking(size=16, overlap=4)
        asked = {"instructions": {"name": "faq", "text": "Given a question, find the plan"}, "wait_s": 60}
        client.create_collection(prefix + SHARED, tenants=True, chunking=cut, lenses=_LENS, **asked)  # type: ignore[arg-type]  # of each its own
        client.create_collection(prefix + OPEN, chunking=Chunking(long_texts=LongTexts.REFUSE), **asked)  # type: ignore[arg-type]  # as above
        for name in (SHARED, OPEN):
            client.indexes.create(prefix + name, {"k": "integer", "at": "datetime", SECRET: "keyword"})
            for tenant in tenants:
                self._fill(prefix + name, tenant)

    def _fill(self, collection: str, tenant: str) -> None:
        evil = tenant == "evil"
        secret = SECRET if evil else "plain"
        documents = [
            Document(
                id=id,
                tenant=tenant,
                version=7,
                text=f"{secret} plans {id}",
                metadata={
                    "k": int(id),
                    secret: secret,
                    "at": "1950-01-01" if evil else int(id),
                    "deep": [{"of": secret, "n": int(id)}],
                },
            )
            for id in ("1", "2") + (("3",) if evil else ())
        ]
        long = LONG if collection.endswith(OPEN) else IN_CHUNKS
        more = [
            Document(id=id, tenant=tenant, version=7, text=f"{secret} {text}")
            for id, text in (("chunks", IN_CHUNKS), ("long", long))
        ]
        job = self.client.enqueue(collection, [*documents, *more])
        job.wait(60)
        self.client.delete(collection, "4", tenant=tenant, version=9).wait(60)
        self.jobs[tenant] = job.id

    def others(self) -> Any:
        """All that is known of the other tenant."""
        found: list[Any] = [self.client.jobs.list(1000, tenant="evil"), self.client.dead.list(tenant="evil")]
        for name in (self.prefix + SHARED, self.prefix + OPEN):
            found += [self.client.scroll(name, tenant="evil"), self.client.audit(name, tenant="evil")]
            found += [self.client.receipt(name, id, tenant="evil") for id in ("1", "2", "3", "4", "chunks", "long")]
        return self.plain(found)

    def plain(self, answer: Any) -> Any:
        """An answer as far as two worlds may be compared by it."""
        match answer:
            case TenantJob():
                return self.plain([answer.wait(60), answer.report(), answer.rejections])
            case BaseModel():
                return {
                    name: self.plain(value)
                    for name, value in answer
                    if name not in _PASSING and not (name in _SCORES and _by_words(answer))
                }
            case dict():
                return {key: self.plain(value) for key, value in answer.items()}
            case np.ndarray():
                return self.plain(answer.tolist())
            case float():
                return round(answer, 4)  # which rows lie beside one another moves a product's last digits
            case str():
                return re.sub(r"\b[0-9a-f]{16}\b", "<job or version>", answer.replace(self.prefix or "\0", ""))
            case int() if answer > 2**40:
                return "<version>"
            case Hits():
                hits = [self.plain(each) for each in _settled(answer)]
                return [hits, self.plain(answer.explanation)]
            case Iterator() | list() | tuple() | set():
                items = list(answer)
                if items and isinstance(items[0], DeadLetter):  # of jobs that ran side by side
                    items.sort(key=lambda letter: (letter.collection, *map(str, letter.identity), letter.version))
                return [self.plain(each) for each in items]
        return answer


#: What differs between any two runs.
_PASSING = {
    "created_at", "seconds", "died_at", "newest_died_at", "enqueued_at", "stored_at", "registered_at", "bytes", "version",
    "took_ms", "server_ms", "queue_bytes",
}  # fmt: skip
_SCORES = {"score", "retrieval_score"}


def _by_words(answer: BaseModel) -> bool:
    """How rare a word is is known of all tenants together (docs/howto/tenants.md): scores and ranks by words differ."""
    kinds = (getattr(answer, "score_kind", None), getattr(answer, "retrieval_score_kind", None))
    return bool({"bm25", "boosted", "dbsf", "rrf"}.intersection(map(str, kinds)))


def _settled(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Hits of like scores by their ids; all of them where words have a say in their scores."""
    return sorted(hits, key=lambda hit: (0.0 if _by_words(hit) else -round(hit.score, 4), hit.id, hit.chunk))


def told(world: World, name: str, /, **how: Any) -> Any:
    """What a call answers, or how it refuses; whatever it has begun is over then."""
    if "collection" in how:
        how["collection"] = world.prefix + how["collection"]
    try:
        answer = call_of(world.mine, name)(**how)
        if isinstance(answer, AuditReport | Clustering) and answer.job_id is not None:
            world.mine.jobs.get(answer.job_id).wait(60)
        return world.plain(answer)
    except GristmillError as error:
        notes = list(getattr(error, "__notes__", []))
        behind = [str(each) for each in (error.__cause__, error.__context__) if each is not None]
        return [type(error).__name__, *map(world.plain, (str(error), notes, behind))]


def call_of(client: TenantClient, name: str) -> Callable[..., Any]:
    """A call by its name, such as `dead.list`."""
    place: Any = client
    for part in name.split("."):
        place = getattr(place, part)
    return place  # type: ignore[no-any-return]  # any call


_EVIL = models.FieldCondition(key="_gristmill.tenant", match=models.MatchValue(value="evil"))
_MINE = models.FieldCondition(key="_gristmill.tenant", match=models.MatchValue(value="acme"))
_NONE = models.IsEmptyCondition(is_empty=models.PayloadField(key="_gristmill.tenant"))
_POINTS = models.HasIdCondition(has_id=[point_id(id, "evil") for id in ("1", "2", "3")])
_NESTED = models.NestedCondition(
    nested=models.Nested(
        key="deep",
        filter=models.Filter(should=[models.FieldCondition(key="of", match=models.MatchValue(value=SECRET))]),
    )
)
_IN_RECORD = models.NestedCondition(
    nested=models.Nested(
        key="_gristmill",
        filter=models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchText(text="evil"))]),
    )
)
_LEAVES = st.sampled_from(
    [_EVIL, _MINE, _NONE, _POINTS, _NESTED, _IN_RECORD, models.FieldCondition(key="k", range=models.Range(gte=0))]
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        models.Filter,
        must=st.lists(inner, max_size=2) | inner,
        should=st.lists(inner, max_size=2) | inner,
        must_not=st.lists(inner, max_size=2),
        min_should=st.none()
        | st.builds(models.MinShould, conditions=st.lists(inner, min_size=1, max_size=2), min_count=st.just(0)),
    ),
    max_leaves=4,
)
_MAPPINGS: st.SearchStrategy[Any] = st.sampled_from(
    [
        {}, {"k": 1}, {SECRET: SECRET}, {"not": {"k": 1}}, {"any": [{"k": 1}, {SECRET: SECRET}]}, {"k": {"missing": True}},
        {"_gristmill.tenant": "evil"}, {"_gristmill": {"nested": {"tenant": "evil"}}}, {"_gristmill.id": "3"},
        {'"_gristmill".tenant': "evil"}, {"_gristmill[].tenant": "evil"}, {"deep": {"nested": {"of": SECRET}}},
        {"deep[].of": SECRET}, {"deep": {"nested": {"not": {"of": "plain"}}}}, {"any": [{"k": 1}, _EVIL]},
        {"tenant": "evil"}, {"not": {"_gristmill.tenant": "acme"}}, {"k": _EVIL}, {"not": _MINE},
    ]
)  # fmt: skip
WHERE = st.none() | _MAPPINGS | _FILTERS
NAMES = st.sampled_from([SHARED, SHARED, OPEN])
IDS = st.sampled_from(
    [
        "1",
        "2",
        "3",
        "4",
        "chunks",
        "long",
        point_id("1", "evil"),
        point_id("3", "evil"),
        "0:1",
        "4:evil1",
        "evil1",
        "1\x001",
    ]
)
_FIELDS = ("k", SECRET, "at", "_gristmill.tenant", '"_gristmill".tenant', "_gristmill[].tenant", "deep[].of", "text")


def _cursor(point: str, order: str | None = None, stage: str = "without", value: float | None = None) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, stage, value, point]).encode()).decode()


_CURSORS = [
    _cursor(point_id("3", "evil")),
    _cursor(point_id("3", "evil"), "k", "at", 3.0),
    _cursor(point_id("3", "evil"), "k", "behind", 0.0),
    _cursor("00000000-0000-0000-0000-000000000000"),
]


def refinements(call: str) -> list[dict[str, Any]]:
    """What a search, or a call like it, may be told besides: options one by one, or several that need one another."""
    everywhere: list[dict[str, Any]] = [
        {"lens": "legal"}, {"lens": "evil"}, {"limit": 1}, {"limit": 200}, {"offset": 1}, {"offset": 5},
        {"score_threshold": -1.0}, {"group_by_document": True}, {"group_by_document": True, "chunks_per_document": 3},
        {"context_chunks": 2},
        {"fields": ["k", SECRET]}, {"fields": ["_gristmill.tenant"]}, {"fields": ["deep[].of"]}, {"text": False},
        {"boost": {"where": _EVIL, "weight": 5}}, {"boost": {"where": {SECRET: SECRET}, "weight": 5}},
        {"boost": {"field": "at"}}, {"boost": {"field": "k", "how": "multiply"}, "candidates": 100},
        {"boost": {"field": "at", "half_life": "P1D", "now": "2024-01-01T00:00:00Z"}},
        {"exact": True}, {"ef": 64}, {"explain": True},
    ]  # fmt: skip
    varied: list[dict[str, Any]] = [{"diversity": 0.5}, {"diversity": 1.0, "candidates": 100}]
    instructed = [{"instruction": each} for each in ("Given a secret, find it", "faq", "faq@7", "preset:web", "evil")]
    modes: list[dict[str, Any]] = [
        {"mode": "keyword"}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "dbsf"}, {"rerank": True},
        {"rerank": True, "rerank_top": 100}, {"rerank": "overlap:64", "mode": "hybrid"}, {"rerank": "evil"},
    ]  # fmt: skip
    more = {"search_by_vector": varied, "similar": varied, "recommend": instructed}
    return everywhere + more.get(call, [*varied, *instructed, *modes])


def _refined(call: str, **fixed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A call with up to three refinements and a filter."""
    told = st.lists(st.sampled_from(refinements(call)), max_size=3).map(_joined)
    chosen = st.fixed_dictionaries({"collection": NAMES, **fixed}, optional={"where": WHERE})
    return st.builds(lambda some, more: {**more, **some}, chosen, told)


def _with_text(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    # Each its own: of like scores the last digits would decide.
    return st.sampled_from([{**fields, "text": f"{fields['id']} {text}"} for text in ("new plans", IN_CHUNKS)])


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def arguments(strange: Sequence[str]) -> dict[str, st.SearchStrategy[dict[str, Any]]]:
    """For each call of a tenant, all that may lead out; `strange` are ids of the other's jobs and letters."""
    of, where, some = {"collection": NAMES}, {"where": WHERE}, st.sampled_from(strange)
    choice: dict[str, Any] = {"collection": NAMES, "job": some, "error": st.sampled_from(["TextTooLong", "x"])}
    documents = st.lists(
        st.fixed_dictionaries(
            {"id": IDS},
            optional={
                "tenant": st.sampled_from(["acme", "evil"]),
                "version": st.sampled_from([8, 2**53 - 1]),
                "metadata": st.sampled_from(
                    [{"_gristmill": {"tenant": "evil"}}, {"_gristmill.tenant": "evil"}, {"k": 9}]
                ),
            },
        ).flatmap(_with_text),
        max_size=3,
    )
    changes = st.sampled_from(
        [{"k": 5}, {"_gristmill": {"tenant": "evil"}}, {"_gristmill.tenant": "evil"}, {"at": None}, {"text": "x"}]
    )
    letters = st.fixed_dictionaries({"letter_ids": st.lists(some, min_size=1, max_size=2)})
    chosen = st.fixed_dictionaries({}, optional=choice)
    with_ids = st.fixed_dictionaries({**of, "ids": st.lists(IDS, min_size=1, max_size=3) | IDS})
    examples = IDS | st.lists(IDS | st.just({"text": f"{SECRET} plans"}), min_size=1, max_size=2)
    strategy = st.sampled_from(["average_vector", "best_score", "sum_scores"])
    named = {"name": st.sampled_from(["faq", "faq@1", "faq@7", "evil"])}
    texts = st.just([f"{SECRET} plans"])
    return {
        "audit": st.fixed_dictionaries(of, optional={"expected": documents, "repair": st.booleans()}),
        "cluster": st.fixed_dictionaries(
            {**of, "threshold": st.sampled_from([0.2, 0.9])},
            optional={**where, "lens": st.just("legal"), "apply": st.sampled_from(_FIELDS), "dry_run": st.booleans()},
        ),
        "count": st.fixed_dictionaries(of, optional=where),
        "delete": st.builds(lambda it, v: {**it, **v}, with_ids, st.sampled_from([{}, {"version": 2**53 - 1}])),
        "delete_where": st.fixed_dictionaries(of, optional={**where, "job": some}),
        "documents": st.fixed_dictionaries(of, optional={**where, "order_by": st.sampled_from(["k", "-at"])}),
        "enqueue": st.fixed_dictionaries({**of, "documents": documents})
        | st.just({"collection": OPEN, "documents": {"id": "long", "text": LONG}}),
        "estimate": st.fixed_dictionaries({**of, "documents": documents, "tokens_per_s": st.just(100.0)}),
        "facets": st.fixed_dictionaries({**of, "field": st.sampled_from(_FIELDS)}, optional=where),
        "get": with_ids,
        "queue": st.just({}),
        "receipt": st.fixed_dictionaries({**of, "document_id": IDS}),
        "recommend": st.builds(
            lambda it, more: {**it, **more},
            _refined("recommend", positive=examples),
            st.fixed_dictionaries({}, optional={"negative": examples, "strategy": strategy}),
        ),
        "scroll": st.fixed_dictionaries(
            {**of, "limit": st.sampled_from([1, 2, 100])},
            optional={
                **where,
                "order_by": st.sampled_from(["k", "-k", "at", *_FIELDS[3:]]),
                "cursor": st.sampled_from(_CURSORS),
            },
        ),
        "search": _refined("search", query=st.just(f"{SECRET} plans")),
        "search_many": _refined("search_many", queries=st.just([f"{SECRET} plans", "new"])),
        "search_by_vector": _refined("search_by_vector", vector=st.just([1.0, *[0.5] * 15])),
        "similar": _refined("similar", document_id=IDS),
        "update_metadata": st.builds(lambda it, to: {**it, "changes": to}, with_ids, changes),
        "embed": st.fixed_dictionaries(
            {"texts": texts}, optional={**of, "lens": st.just("legal"), "instruction": named["name"]}
        ),
        "rerank": st.fixed_dictionaries({"query": st.just(SECRET), "documents": texts}),
        "dead.drop": letters | chosen,
        "dead.get": st.fixed_dictionaries({"letter_id": some}),
        "dead.list": chosen,
        "dead.replay": letters | chosen,
        "dead.scroll": chosen,
        "dead.summary": st.fixed_dictionaries({}, optional={"collection": NAMES}),
        "jobs.get": st.fixed_dictionaries({"job_id": some}),
        "jobs.list": st.fixed_dictionaries({"limit": st.sampled_from([1, 1000])}),
        "instructions.get": st.fixed_dictionaries({**of, **named}),
        "instructions.list": st.fixed_dictionaries(of),
        "instructions.presets": st.just({}),
        "instructions.show": st.fixed_dictionaries({**of, **named}),
    }  # fmt: skip
