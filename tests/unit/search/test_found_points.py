"""What a hit is made of is the same, whichever way its point came and whatever lies in its payload."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import grpc_to_payload, payload_to_grpc

from gristmill.search.hits import hits_of
from gristmill.search.options import checked
from gristmill.store.found_points import of_message, of_record
from gristmill.store.points import Foreign
from gristmill_schemas import CollectionSpec, PointSystem, SearchHit, SearchMode, point_id
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.encoder.hash_encoder import HashEncoder

SPEC = CollectionSpec(name="docs", space=HashEncoder(8).info.space())
WHOLE: dict[str, Any] = {
    "id": "d1", "version": 7, "chunk": 0, "etag": "e" * 32, "space": SPEC.fingerprint, "text_hash": "t" * 32,
    "job": "j" * 16, "stored_at": 1795689934.5,
}  # fmt: skip
#: What a record may hold besides, and what it may hold instead of what it should.
MORE: dict[str, Any] = {
    "tenant": "acme", "chunks": 3, "span": [4, 9], "context": "Title\n\n章", "tokens": 51, "attempts": 2, "truncated": True,
}  # fmt: skip
ODD: list[Any] = [
    None,
    "",
    "x",
    0,
    -1,
    2,
    2**62,
    0.0,
    1.0,
    1.5,
    True,
    [],
    [1],
    [1, 2],
    [1.0, 2],
    ["1", 2],
    {},
    {"a": 1},
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def both_ways(payload: dict[str, Any], key: str | None = None) -> tuple[Any, Any]:
    """A point straight from its message, and as the client's own record of the same message."""
    record = payload.get(SYSTEM_KEY)
    own = key or (point_id(str(record.get("id")), record.get("tenant"), 0) if isinstance(record, dict) else "")
    place = grpc.PointId(uuid=own) if own else grpc.PointId(num=7)
    message = grpc.ScoredPoint(id=place, score=0.5, payload=payload_to_grpc(payload))
    client = models.ScoredPoint(id=own or 7, version=0, score=message.score, payload=grpc_to_payload(message.payload))
    return of_message(message), of_record(client)


@given(
    st.dictionaries(st.text().filter(lambda key: key != SYSTEM_KEY), values, max_size=4),
    st.sets(st.sampled_from(sorted(MORE))),
)
def test_whatever_metadata_there_are_both_ways_give_the_same_point(metadata: dict[str, Any], more: set[str]) -> None:
    record = {**WHOLE, **{name: MORE[name] for name in more}}
    straight, over_record = both_ways({**metadata, SYSTEM_KEY: record})
    assert straight == over_record
    assert not isinstance(straight.origin, Foreign)
    assert straight.origin._asdict().items() <= PointSystem.read(record).model_dump().items()


@pytest.mark.parametrize("name", [*WHOLE, *MORE, "format", "unknown"])
def test_a_field_that_is_absent_or_odd_is_judged_as_everywhere(name: str) -> None:
    without = {key: value for key, value in {**WHOLE, **MORE}.items() if key != name}
    key = point_id("d1", "acme", 0)
    for record in [without, *({**without, name: odd} for odd in ODD)]:
        straight, over_record = both_ways({"text": "a", SYSTEM_KEY: record}, key)  # an error equals itself alone
        assert repr(straight) == repr(over_record), record


def test_a_payload_without_a_record_of_ours_is_judged_as_everywhere() -> None:
    payloads: list[dict[str, Any]] = [{}, {"text": "a"}, *({SYSTEM_KEY: odd} for odd in ODD)]
    for payload in payloads:
        straight, over_record = both_ways(payload, "00000000-0000-4000-8000-000000000001")
        assert straight == over_record, payload
        assert isinstance(straight.origin, Foreign)


def test_another_tools_point_keeps_its_number_by_which_it_is_asked_for_again() -> None:
    for point in both_ways({"text": "a"}):
        assert (point.id, isinstance(point.origin, Foreign)) == (7, True)


def test_a_point_under_anothers_id_is_foreign_both_ways() -> None:
    straight, over_record = both_ways({SYSTEM_KEY: WHOLE}, point_id("d2", None))
    assert straight == over_record
    assert "under another id" in straight.origin.problem


def test_a_hit_is_a_whole_record() -> None:
    straight, _ = both_ways({"text": "words", "n": 1, SYSTEM_KEY: WHOLE})
    (hit,) = hits_of(SPEC, [straight], {"mode": SearchMode.DENSE, "template": "{text}"}, certain=True)
    made = SearchHit.model_validate(hit.model_dump(exclude_unset=True))
    assert hit == made
    assert hit.model_fields_set == made.model_fields_set
    assert (repr(hit), hit.model_dump_json()) == (repr(made), made.model_dump_json())
    assert pickle.loads(pickle.dumps(hit)) == deepcopy(hit) == hit.model_copy() == hit
    assert hit.model_copy(update={"best_chunks": ()}).model_fields_set != hit.model_fields_set
    assert hit.model_fields_set == made.model_fields_set


def test_options_that_came_before_are_the_same_and_what_only_looks_the_same_is_not() -> None:
    assert checked(limit=1, tenant="acme") is checked(limit=1, tenant="acme")
    assert checked(limit=1) != checked(limit=2)
    wrong: list[Any] = [True, 1.0, "1"]
    for limit in wrong:
        for _ in range(2):
            with pytest.raises(InvalidInput, match="limit"):
                checked(limit=limit)
    where = {"n": 1}
    before = checked(where=where)
    where["n"] = 2
    assert checked(where=where) != before
