"""Inputs that nobody would send on purpose, for every door that takes some from outside; and what a refusal has to be.

Everything comes from one `random.Random`: the seed and the number of an input are all that is needed to see it again.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

#: Inputs per door: a few in every run of the tests, all of them in `make fuzz`.
COUNT = int(os.environ.get("FUZZ_COUNT", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

#: Numbers at the edges of what formats and languages hold; those that are equal and of other types among them.
NUMBERS: list[Any] = [
    0, 1, -1, True, False, 1.0, -0.0, 0.1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308, -1e308, 5e-324,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
STRINGS = [
    "", " ", "\0", "\r\n", "\x1b[2J", "é", "😀", "\ufeff", "\u202e", "\ud800", "a" * 70_000, "-1", "null", "NaN",
    "../../etc/passwd", "{gristmill}:load", "'; DROP TABLE", "${HOME}", "%s%n", "__class__", "pickle",
]  # fmt: skip
KEYS = ["", "id", "format", "__type__", "__value__", "callbacks", "self", "x", "\0", "\ud800", "a" * 300]


def value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value, edges preferred."""
    kind = rng.randrange(9 if depth else 5)
    if kind < 2:
        return rng.choice(STRINGS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return None
    if kind < 7:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): value(rng, depth - 1) for _ in range(rng.randrange(4))}


def mutated(rng: random.Random, valid: Any) -> Any:
    """A copy of JSON with one to three changes: another value, another type, something left out, added or wrapped."""
    changed = [copy.deepcopy(valid)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = rng.choice(list(_places(changed)))
        _change(rng, holder, key)
        if not changed:
            return None
    return changed[0]


def _places(inside: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
    for key in keys:
        yield inside, key
        if isinstance(inside[key], dict | list):
            yield from _places(inside[key])


def _change(rng: random.Random, holder: Any, key: Any) -> None:
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1:
            holder[key] = rng.choice(NUMBERS)
        case 2:
            holder[key] = rng.choice(STRINGS)
        case 3:
            holder[key] = {rng.choice(KEYS): holder[key]}
        case 4:
            holder[key] = [holder[key]]
        case 5 if isinstance(holder, dict):
            holder[rng.choice(KEYS)] = value(rng)
        case 6 if isinstance(holder[key], str) and holder[key]:
            holder[key] = _cut_up(rng, holder[key])
        case _:
            holder[key] = value(rng)


def _cut_up(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return rng.choice((text[:at], text * 2, text[:at] + rng.choice(STRINGS[:10]) + text[at:], text.upper(), text + " "))


def damaged(rng: random.Random, raw: bytes) -> bytes:
    """Bytes with some of them flipped, cut off, doubled, or others put in between."""
    data = bytearray(raw or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) or 1)
        match rng.randrange(4):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 40)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            case _:
                data[at:at] = data[at : at + rng.randrange(1, 40)]
    return bytes(data)


def as_json(changed: Any) -> bytes:
    """JSON as a sender in another language might write it: NaN, lone surrogates and all."""
    return json.dumps(changed).encode()


#: No JSON, or JSON that is hard to read.
HARD: list[bytes] = [
    b"", b"\0", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 50_000, b"9" * 10_000, b"NaN", b"-Infinity", b'"\\ud800"', b"{}",
    b"[]", b"null", b"true", b'{"a": 1, "a": 2}', b"\xef\xbb\xbf{}", b"\x80\x04\x95cos\nsystem\n", b"\x1f\x8b\x08\0",
    b'{"__type__": "decimal", "__value__": "no number"}', b"[" * 2_000 + b"]" * 2_000, b" " * 100_000,
]  # fmt: skip


def inputs(valid: Callable[[], Any], count: int = COUNT, seed: int = SEED) -> Iterator[bytes]:
    """So many inputs for a door that takes JSON: mostly valid ones with a change, some damaged, some that never were any.

    Args:
        valid: makes one that would be taken.
        count: how many.
        seed: the same seed gives the same inputs, as far as `valid` does.
    """
    rng = random.Random(seed)
    for _ in range(count):
        match rng.randrange(10):
            case 0:
                yield damaged(rng, as_json(valid()))
            case 1:
                yield rng.choice(HARD)
            case 2:
                yield as_json(value(rng))
            case _:
                yield as_json(mutated(rng, valid()))


#: What came and what was expected; and nothing of ours that only a programmer can read.
_SENTENCE = re.compile(
    r"expected .*got |should .*got |Unable to parse .*got |Invalid JSON: |is newer than ",
    re.DOTALL,
)
_LONGEST = 2_500


def not_a_sentence(reason: str) -> str | None:
    """What is wrong with a refusal that people shall read; None where nothing is."""
    if not reason.strip():
        return "it says nothing"
    if len(reason) > _LONGEST:
        return f"it has {len(reason)} characters"
    if not reason.isprintable():
        return f"it cannot be printed: {reason[:200]!r}"
    if "Traceback" in reason or not _SENTENCE.search(reason):
        return f"it does not say what was expected: {reason[:300]!r}"
    return None
