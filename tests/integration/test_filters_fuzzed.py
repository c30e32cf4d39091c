"""Whatever is passed as a filter finds something or nothing, or is refused by a sentence; on local mode and the server."""

from __future__ import annotations

import datetime
import decimal
import enum
import random
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

import fuzzing
from gristmill import Client, Document, InvalidInput
from gristmill.search.filters.grammar import OPERATORS


class Colour(enum.Enum):
    RED = "red"


VALID: list[dict[str, Any]] = [
    {"lang": "zh", "year": {"gte": 2020, "lt": 2030}, "tag": ["a", "b"]},
    {"price": 9.5, "seen": True, "gone": None},
    {"at": {"gte": "2024-02-29", "lt": "2025-01-01T00:00:00Z"}, "lang": {"not": ["en", "de"]}},
    {
        "any": [{"lang": "zh"}, {"all": [{"n": {"not": 1}}, {"not": {"year": {"gte": 2020}}}]}],
        "n": {"any": [1, {"lt": 3}]},
    },
    {"t": {"text": "words"}, "l": {"nested": {"k": 1}, "count": {"gte": 1}}, "gone": {"missing": True, "null": False}},
    {"p": {"radius": {"lat": 1, "lon": 2, "meters": 3}}, "q": {"box": {"north": 2, "south": 1, "west": 3, "east": 4}}},
    {"p": {"polygon": [{"lat": 0, "lon": 0}, {"lat": 0, "lon": 1}, {"lat": 1, "lon": 1}]}},
    {"nested.k": 1, "my key": "x", "产品": 5, "tags[]": "a", '"a.b"': 1, "list[0].k": {"not": {"gt": 1}}},
]
#: Values that JSON does not have, and keys that are no words.
PYTHON: list[Any] = [
    datetime.datetime(2024, 2, 29), datetime.datetime.max, datetime.datetime.min, datetime.date.max, datetime.date.min,
    datetime.datetime.max.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-14))), datetime.time(8),
    datetime.timedelta.max, decimal.Decimal("1E+999999999"), decimal.Decimal("NaN"), decimal.Decimal("sNaN"),
    decimal.Decimal("-Infinity"), uuid.UUID(int=7), Colour.RED, Colour, b"x", bytearray(b"x"), object(), {1, "a"}, 1j,
    np.int64(3), np.array([[1, 2]]), np.array(["NaT"], dtype="M8[ns]"), np.datetime64(2**62, "s"), np.float32("inf"),
    range(3), range(0), (each for each in "ab"), "ab", {"a": 1}.keys(), lambda: 1, 10**5000, Ellipsis, NotImplemented,
    models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=1))]), models.MatchValue(value=1),
    models.Range(gte=1), Document(id="a", text="t"), int, type,
]  # fmt: skip
KEYS: list[Any] = [
    "", " ", ".", "a.", ".a", "a..b", "[", "]", "[]", "a[", "a[]", "a[-1]", "a[x]", '"', '""', '"a', 'a"b"', "a b.c d",
    "a\nb", "_gristmill", "_gristmill.id", "a" * 600, "a." * 200 + "a", "é", "\u0301", "😀", "\\", "$", "*", "%", "/",
    "a:b", 5, 2.5, None, True, b"a", ("a",), uuid.UUID(int=7), "a\u2028b", "٣", "x²", "\ufeff", "\x7f",
]  # fmt: skip


def filters(count: int, seed: int) -> Iterator[Any]:
    rng = random.Random(seed)
    for _ in range(count):
        match rng.randrange(8):
            case 0:
                yield fuzzing.value(rng)
            case 1:
                yield rng.choice(PYTHON)
            case 2 | 3:
                yield {rng.choice(KEYS): any_value(rng) for _ in range(rng.randrange(1, 4))}
            case 4:
                yield {"n": {rng.choice((*OPERATORS, "$in", 1)): any_value(rng) for _ in range(rng.randrange(1, 4))}}
            case _:
                yield fuzzing.mutated(rng, rng.choice(VALID))


def any_value(rng: random.Random) -> Any:
    return rng.choice((lambda: fuzzing.value(rng), lambda: rng.choice(PYTHON), lambda: [rng.choice(PYTHON), 1]))()


@pytest.mark.timeout(1200)
def test_a_filter_finds_or_is_refused_by_a_sentence(client: Client, collection_name: str) -> None:
    metadata = {"lang": "zh", "year": 2024, "n": 1, "nested": {"k": 1}, "at": "2024-03-01"}
    client.enqueue(collection_name, Document(id="a", text="t", metadata=metadata)).wait(60).raise_for_failures()
    refused, problems = 0, list[str]()
    for number, where in enumerate(filters(fuzzing.COUNT, fuzzing.SEED)):
        try:
            client.count(collection_name, where)
        except InvalidInput as error:
            refused += 1
            if wrong := fuzzing.not_a_sentence(str(error)):
                problems.append(f"input {number}: {wrong}")
        except Exception as error:
            problems.append(f"input {number}, {str(where)[:200]}: {error!r}"[:500])
    assert "\n".join(problems[:40]) == ""
    assert 0 < refused < fuzzing.COUNT
