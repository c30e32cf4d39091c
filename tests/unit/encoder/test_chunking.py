"""Laws of chunks: they fit, ascend, lose nothing that can be seen, and count characters, not bytes."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill_schemas import ChunkBy
from gristmill_worker.encoder import Encoder, open_encoder
from gristmill_worker.encoder.chunking import counted_chunks

CHINESE = "用了优惠券但没减钱，应该怎么办？😀 请问什么时候发货！退款需要几天到账？"
ENGLISH = (
    "The old mill by the river grinds grain. Day after day it turns; nobody asks why.\n\nA paragraph begins 👩‍👩‍👧. "
)
pieces = st.sampled_from([*CHINESE, *ENGLISH.split(" "), " ", "\n\n", "🏳️‍🌈", "é", "a" * 30])
texts = st.lists(pieces, max_size=120).map(" ".join) | st.lists(pieces, max_size=120).map("".join)


@pytest.fixture(scope="module", params=["bert", "hash"])
def encoder(request: pytest.FixtureRequest, model_root: Path) -> Encoder:
    if request.param == "hash":
        return open_encoder("hash:8")
    return open_encoder(str(model_root / request.param), device="cpu", budget_tokens=256)


@pytest.mark.parametrize("by", ChunkBy)
def test_neighbours_share_whole_units_of_the_kind_that_was_cut_between(by: ChunkBy) -> None:
    """Sentences within a paragraph, whole paragraphs between, nothing where none fits (`docs/explanation/chunking.md`)."""

    def shared(*paragraphs: int) -> list[int]:
        text = "\n\n".join(
            " ".join(f"Sentence {p} {n} of six." for n in range(count)) for p, count in enumerate(paragraphs)
        )
        spans = counted_chunks(text, lambda part: len(part.split()), 30, 12, by)
        return [
            len(text[after[0] : before[1]].split()) if after[0] < before[1] else 0 for before, after in pairwise(spans)
        ]

    assert set(shared(30)) == {10}, "two sentences of five words"
    assert set(shared(*[1] * 30)) == {10}, "two paragraphs of one sentence"
    assert set(shared(*[4] * 8)) == {0}, "paragraphs of twenty words are more than twelve"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=texts, size=st.sampled_from([16, 24, 64]), overlap=st.sampled_from([0, 5]))
def test_chunks_fit_ascend_and_cover_all_that_can_be_seen(encoder: Encoder, text: str, size: int, overlap: int) -> None:
    spans = encoder.chunk(text, size, overlap)
    assert spans
    assert spans == sorted(spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(left[1] <= right[1] and left[0] < right[0] for left, right in pairwise(spans))
    covered = {at for start, end in spans for at in range(start, end)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)
    for item in encoder.tokenize([text[start:end] for start, end in spans]):
        assert item.n_tokens <= size
        assert not item.truncated


def test_a_text_that_fits_is_one_chunk(encoder: Encoder) -> None:
    assert encoder.chunk("你好 😀 ", 16, 4) == [(0, 5)]
    assert encoder.chunk("", 16, 4) == [(0, 0)]


def test_chinese_without_spaces_splits_at_its_own_marks(encoder: Encoder) -> None:
    text = CHINESE.replace(" ", "") * 6
    chunks = [text[start:end] for start, end in encoder.chunk(text, 48, 0)]
    assert len(chunks) > 2
    assert all(chunk[-1] in "？！😀，" for chunk in chunks)


def test_neighbouring_chunks_share_text_when_asked() -> None:
    encoder = open_encoder("hash:8")
    text = " ".join(f"word{number}." for number in range(200))
    spans = encoder.chunk(text, 50, 10)
    assert all(left[1] > right[0] for left, right in pairwise(spans))


def test_a_chunk_leaves_room_for_the_document_template(model_root: Path) -> None:
    encoder = open_encoder(str(model_root / "bert"), device="cpu", max_tokens=32, budget_tokens=256)
    text = ENGLISH * 10
    spans = encoder.chunk(text, 512, 0)
    inputs = [encoder.info.templates.for_document(text[start:end]) for start, end in spans]
    assert not any(item.truncated for item in encoder.tokenize(inputs))
