"""Laws of chunks cut by Markdown: they fit, ascend, cover all that can be seen; headings stay with what they are over."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gristmill import ChunkBy
from gristmill_worker.encoder import Encoder, open_encoder
from gristmill_worker.encoder.chunking import outline

WORDS = "The old mill by the river grinds grain, day after day. "
GUIDE = f"""---
title: The mill
---
# Guide

{WORDS * 2}

## Install

### Linux

{WORDS * 6}

### Windows

## Use

| stone | grain |
|-------|-------|
{"| runner | wheat and barley and rye |" * 1}
{chr(10).join("| bed | spelt |" for _ in range(12))}

```python
# not a heading
print("mill")
```

石磨的用法
=========

先把谷物倒进料斗。然后打开水闸！磨盘转得太快怎么办？把闸门关小一点。

- one
  - two 👩‍👩‍👧
"""
pieces = st.sampled_from(
    [
        "# Mill\n",
        "## 石磨\r\n",
        "###### six\n",
        "Title\n=====\n",
        "---\n",
        "---\ntitle: x\n---\n",
        "```\n",
        "# in a fence?\n",
        "- item\n",
        "  1. nested\n",
        "> quoted\n",
        "| a | b |\n|---|---|\n| c | d |\n",
        "\n",
        "\r\n\r\n",
        "\r",
        "   ",
        "\n" * 9,
        WORDS,
        "谷物在磨坊里磨成面粉。",
        "مرحبا بالعالم. ",
        "👩‍👩‍👧🏳️‍🌈",
        "é",
        "<div>\n",
        "[a]: b\n",
        "a" * 40,
    ]
)
texts = st.lists(pieces, max_size=60).map("".join)


@pytest.fixture(scope="module", params=["bert", "hash"])
def encoder(request: pytest.FixtureRequest, model_root: Path) -> Encoder:
    if request.param == "hash":
        return open_encoder("hash:8")
    return open_encoder(str(model_root / request.param), device="cpu", budget_tokens=256)


def check(encoder: Encoder, text: str, size: int, overlap: int) -> list[tuple[int, int]]:
    spans = encoder.chunk(text, size, overlap, ChunkBy.MARKDOWN)
    assert spans
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(left[1] <= right[1] and left[0] < right[0] for left, right in pairwise(spans))
    end = 0
    for first, last in spans:
        assert first <= end or text[end:first].isspace()
        end = last
    assert not text[end:].strip()
    for item in encoder.tokenize([text[start:end] for start, end in spans]):
        assert item.n_tokens <= size
        assert not item.truncated
    return spans


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=texts, size=st.sampled_from([16, 24, 64]), overlap=st.sampled_from([0, 5]))
@example(text=GUIDE, size=24, overlap=0)
@example(text=GUIDE.replace("\n", "\r\n"), size=24, overlap=5)
@example(text=GUIDE.replace("\n", "\r"), size=24, overlap=5)
def test_chunks_fit_ascend_and_cover_all_that_can_be_seen(encoder: Encoder, text: str, size: int, overlap: int) -> None:
    check(encoder, text, size, overlap)


def test_a_heading_begins_the_chunk_of_what_it_stands_over() -> None:
    chunks = [GUIDE[start:end] for start, end in check(open_encoder("hash:8"), GUIDE, 32, 0)]
    (linux,) = [chunk for chunk in chunks if "### Linux" in chunk]
    assert linux.startswith("## Install\n\n### Linux\n\nThe old mill")
    assert not any(chunk.strip().splitlines()[-1].startswith("#") and "Windows" not in chunk for chunk in chunks)


def test_a_code_block_and_a_table_that_fit_are_not_cut() -> None:
    chunks = [GUIDE[start:end] for start, end in check(open_encoder("hash:8"), GUIDE, 80, 0)]
    assert any("```python\n# not a heading" in chunk and 'print("mill")\n```' in chunk for chunk in chunks)
    assert any(chunk.count("| bed | spelt |") == 12 for chunk in chunks)


def test_chinese_sentences_end_where_their_marks_stand() -> None:
    text = "# 石磨\n\n" + "先把谷物倒进料斗。然后打开水闸！磨盘转得太快怎么办？“把闸门关小一点。”他说完就走了。" * 4
    spans = check(open_encoder("hash:8"), text, 48, 0)
    assert len(spans) > 3
    assert all(text[end - 1] in "。！？”" for _, end in spans)


def test_no_cluster_of_characters_is_cut_where_it_fits() -> None:
    text = "# Families\n\n" + "👩‍👩‍👧🏳️‍🌈é" * 60
    family = open_encoder("hash:8")
    for start, end in check(family, " ".join(text), 16, 0):
        assert end >= start  # words of one character each: the laws hold
    for start, end in family.chunk(text.replace("é", "é "), 16, 0, ChunkBy.MARKDOWN):
        part = text.replace("é", "é ")[start:end]
        assert part[0] not in "\u200d\ufe0f\u0301"
        assert part[-1] != "\u200d"


def test_the_outline_has_the_characters_of_each_heading_whatever_ends_the_lines() -> None:
    expected = ["Guide", "Install", "Linux", "Windows", "Use", "石磨的用法"]
    for end in ("\n", "\r\n", "\r"):
        text = GUIDE.replace("\n", end)
        found = outline(text)
        assert [heading.title for heading in found] == expected
        assert all(heading.title in text[heading.start : heading.end] for heading in found)
        assert [heading.depth for heading in found] == [1, 2, 3, 3, 2, 1]


def test_a_text_without_headings_has_no_outline() -> None:
    assert outline("") == outline("a plain text\n\nof two paragraphs") == []
    assert outline("```\n# comment\n```\n") == []


PATHOLOGICAL = {
    "one line": WORDS * 2_000,
    "line ends": "\n" * 100_000,
    "line ends at both ends": "\n" * 50_000 + "mill" + "\r\n" * 50_000,
    "line ends between": ("mill" + "\n" * 3_000) * 30,
    "quotations": "> " * 30_000,
    "deep lists": "".join("  " * depth + "- a\n" for depth in range(200)),
    "rules": "- " * 20_000,
    "headings": "# Mill\n" * 8_000,
    "underlines": "Mill\n====\n" * 5_000,
    "an open fence": "```\n" + "grind(grain)\n" * 5_000,
    "no spaces": "0123456789abcdef" * 5_000,
    "brackets": "[" * 60_000,
    "links": "[a](b) " * 8_000,
    "tables": "| a | b |\n|---|---|\n" + "| c | d |\n" * 5_000,
    "emphasis": "*a **b " * 8_000,
    "references": "[a]: b\n" * 8_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PATHOLOGICAL)
def test_whatever_a_text_is_made_of_it_is_cut_in_about_linear_time(kind: str) -> None:
    # CPU seconds, not the clock: below 2 where it is linear, minutes where it is not.
    started = time.process_time()
    check(open_encoder("hash:8"), "mill " + PATHOLOGICAL[kind], 256, 32)
    open_encoder("hash:8").chunk(PATHOLOGICAL[kind], 256, 32, ChunkBy.MARKDOWN)
    assert time.process_time() - started < 30
