"""Random and mutated files, in every format, encoding and compression: documents and sentences come out, and nothing else.

A few hundred in every run of the tests, 10,000 in `make fuzz`.
"""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import random
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fuzzing
from gristmill.readers import read
from gristmill_schemas import Document, Rejection

ENCODINGS = [
    "utf-8",
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "gb18030",
    "big5",
    "shift_jis",
    "cp1252",
    "utf-32",
    "koi8_r",
]
WORDS = [
    *(
        "text",
        "你好，世界",
        "訂單",
        "クーポン",
        "café",
        "заказ",
        '"',
        "'",
        ",",
        ";",
        "\t",
        "\n",
        "\r",
        "#",
        "---",
        "[",
        "]",
    ),
    *("{", "}", "\0", "\x1b[2J", "\ud800", "~2", "&a", "*a", "<<: ", ": ", "- ", "> ", "```", "=cmd()", "9" * 5000),
    *("1e999", "NaN", "2024-02-30", "9999-99-99", "\ufeff", "\u2028", "x" * 70_000),
]
#: Where a parser says in its own words what it expected, and what came.
PARSERS = re.compile(r"JSON: .+ at character \d+, near |CSV: .+|front matter: expected YAML: ", re.DOTALL)


def words(rng: random.Random, most: int = 30) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(most)))


def jsonl(rng: random.Random) -> bytes:
    record = {"id": "1", "text": "你好", "metadata": {"page": 3}, "lang": "zh", "tenant": "t", "version": 5}
    return b"\n".join(
        rng.choice([fuzzing.as_json(fuzzing.mutated(rng, record)), *fuzzing.HARD]) for _ in range(rng.randrange(6))
    )


def json_array(rng: random.Random) -> bytes:
    return b"[" + jsonl(rng).replace(b"\n", b",") + b"]"


def delimited(rng: random.Random) -> bytes:
    mark = rng.choice(",;\t|")
    rows = [
        ["id", "text", *(["metadata"] * rng.randrange(2)), "k"],
        *([words(rng, 4) for _ in range(3)] for _ in range(5)),
    ]
    return encoded(rng, "\n".join(mark.join(row) for row in rows))


def text(rng: random.Random) -> bytes:
    return encoded(rng, words(rng))


def markdown(rng: random.Random) -> bytes:
    front = f"---\n{words(rng, 8)}\na: {words(rng, 3)}\n---\n" if rng.randrange(2) else ""
    return encoded(rng, front + "\n".join(f"{'#' * rng.randrange(8)} {words(rng, 5)}" for _ in range(8)))


def encoded(rng: random.Random, content: str) -> bytes:
    return content.encode(rng.choice(ENCODINGS), rng.choice(["replace", "ignore", "xmlcharrefreplace"]))


def parquet(rng: random.Random) -> bytes:
    import pyarrow
    from pyarrow import parquet as writer

    rows = rng.randrange(1, 5)
    columns = {
        "text": pyarrow.array(["你好", None, "x" * 1000, "t"][:rows]),
        "at": pyarrow.array([rng.choice([0, 1, 2**62, -(2**62)]) for _ in range(rows)], pyarrow.timestamp("ns")),
        "day": pyarrow.array([rng.choice([0, 10_000_000, -10_000_000]) for _ in range(rows)], pyarrow.date32()),
        "n": pyarrow.array([rng.choice([1.0, float("nan"), float("inf")]) for _ in range(rows)]),
        "raw": pyarrow.array([rng.randbytes(3) for _ in range(rows)]),
        "deep": pyarrow.array([[{"a": [rng.randrange(9)]}] for _ in range(rows)]),
    }
    chosen = ["text", *rng.sample(sorted(columns), rng.randrange(3))]
    out = io.BytesIO()
    writer.write_table(
        pyarrow.table({name: columns[name] for name in chosen}),
        out,
        compression=rng.choice(["none", "snappy", "zstd"]),
        row_group_size=rng.choice([1, 2, 10]),
        use_dictionary=rng.choice([True, False]),
    )
    return out.getvalue()


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "jsonl": jsonl,
    "json": json_array,
    "csv": delimited,
    "tsv": delimited,
    "txt": text,
    "md": markdown,
    "parquet": parquet,
}
PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    *[("", bytes)] * 6,
    (".gz", gzip.compress),
    (".bz2", bz2.compress),
    (".xz", lambda raw: lzma.compress(raw, preset=0)),
]


def files(seed: int, count: int) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """So many files: their names, their bytes, and how they are read."""
    for number in range(count):
        # Each from its own seed, so that one can be made again alone.
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(list(MAKERS))
        raw = MAKERS[kind](rng) if rng.randrange(4) else rng.randbytes(rng.randrange(3000))
        if rng.randrange(2):
            raw = fuzzing.damaged(rng, raw)
        suffix, pack = rng.choice(PACKERS) if kind != "parquet" else ("", bytes)
        raw = pack(raw)
        if rng.randrange(4) == 0:
            raw = fuzzing.damaged(rng, raw)
        options: dict[str, Any] = {"paragraphs": rng.choice([True, False]), "sections": rng.choice([True, False])}
        if rng.randrange(5) == 0:
            options |= {"encoding": rng.choice(ENCODINGS)}
        yield f"{number}.{kind}{suffix}", raw, options


@pytest.mark.fuzz
def test_whatever_a_file_holds_documents_and_sentences_come_out(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sizes = []
    for number, (name, raw, options) in enumerate(files(fuzzing.SEED, fuzzing.COUNT)):
        path = tmp_path / name
        path.write_bytes(raw)
        items = list(read([path], **options))
        path.unlink()
        wrong = [problem for item in items if (problem := problem_with(item, name))]
        assert wrong == [], f"file {number} of seed {fuzzing.SEED}"
        if number % 100 == 0:
            gc.collect()
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # In KiB, and it never falls: what the second half adds to the first.
    assert sizes[-1] - sizes[len(sizes) // 2] < 100_000


def problem_with(item: Document | Rejection, name: str) -> str | None:
    if isinstance(item, Document):
        return None if item.model_dump_json() else "it cannot be stored"
    if name not in str(item.source):
        return f"it does not name the file: {item}"
    if item.position < 0:
        return f"no such line: {item}"
    return fuzzing.not_a_sentence(item.reason if not PARSERS.search(item.reason) else f"expected X, got {item.reason}")
