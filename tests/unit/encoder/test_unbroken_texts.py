"""Texts in which nothing ends: hex, base64, Chinese without marks, one letter. Cut in linear time, and no chunk too long."""

import base64
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from gristmill_worker.encoder.tokenizing import Tokenizer
from models import CORPUS

pytestmark = pytest.mark.slow

#: How Qwen3's tokenizer takes words apart, from its tokenizer.json.
QWEN3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HAN = "".join(sorted({character for character in "".join(CORPUS) if character > "\u2e7f"} - set("，？。")))


def bpe() -> Backend:
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN3), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    return backend


def wordpiece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return backend


def unigram() -> Backend:
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return backend


KINDS = {"bpe": bpe, "wordpiece": wordpiece, "unigram": unigram}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(KINDS[request.param](), 512)


def unbroken(size: int) -> dict[str, str]:
    """Texts of so many bytes."""
    chance = random.Random(7)

    def drawn(alphabet: str) -> str:
        return "".join(chance.choices(alphabet, k=size // len(alphabet[0].encode())))

    return {
        "hex": drawn("0123456789abcdef"),
        "base64": base64.b64encode(chance.randbytes(size * 3 // 4)).decode(),
        "a long address": "https://mill.example/" + drawn("abcdef0123456789/&=%?.-"),
        "DNA": drawn("ACGT"),
        "one letter": "a" * size,
        "dashes": "-" * size,
        "Chinese without marks": drawn(HAN),
        "emoji": drawn("😀🎉👍"),
        "flags": "🏳️‍🌈" * (size // 14),
        "spaces": " " * size,
        "line ends": "\n" * size,
        "spaces between words": "mill" + " " * size + "grain",
    }


def check(tokenizer: Tokenizer, text: str, size: int, overlap: int) -> None:
    spans = tokenizer.chunk(text, size, overlap)
    assert all(left[0] < right[0] and left[1] <= right[1] for left, right in pairwise(spans))
    end = 0
    for first, last in spans:
        assert first <= end or text[end:first].isspace()
        end = last
    assert not text[end:].strip()
    counted = tokenizer.backend.encode_batch([text[first:last] for first, last in spans])
    assert max(len(encoding.ids) for encoding in counted) <= size


@pytest.mark.parametrize("kind", unbroken(16))
def test_a_text_in_which_nothing_ends_is_cut_in_chunks_that_fit(tokenizer: Tokenizer, kind: str) -> None:
    check(tokenizer, unbroken(12_000)[kind], 256, 32)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_stretches_without_an_end_stand_among_ordinary_words(tokenizer: Tokenizer, data: st.DataObject) -> None:
    stretches = unbroken(2_500)
    pieces = st.sampled_from(sorted(stretches)).map(stretches.__getitem__) | st.sampled_from([*CORPUS, "\n\n", "mill."])
    text = data.draw(st.sampled_from([" ", ""])).join(data.draw(st.lists(pieces, max_size=8)))
    check(tokenizer, text, data.draw(st.sampled_from([16, 100])), data.draw(st.sampled_from([0, 9])))


def test_chunks_of_one_window_share_text_with_those_of_the_next() -> None:
    spans = Tokenizer(bpe(), 512).chunk(unbroken(24_000)["hex"], 256, 64)
    shared = [left[1] - right[0] for left, right in pairwise(spans)]
    assert min(shared) > 50
    assert max(shared) < 100  # characters; a token has one or two


def test_hex_is_cut_in_linear_time() -> None:
    # CPU seconds, not the clock: 0.4 where it is linear, 40 where each chunk counts the rest.
    tokenizer, text = Tokenizer(bpe(), 512), unbroken(128 * 1024)["hex"]
    started = time.process_time()
    tokenizer.chunk(text, 512, 64)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("kind", unbroken(16))
def test_a_text_beyond_the_window_has_the_tokens_that_all_of_it_would_have(tokenizer: Tokenizer, kind: str) -> None:
    text = unbroken(50_000)[kind]
    (item,) = tokenizer.tokenize([text])
    whole = tokenizer.backend.encode(text).ids
    after = 1
    cut = whole if len(whole) <= 512 else whole[: 512 - after] + whole[-after:]
    assert item.ids.tolist() == cut
    assert (item.truncated, item.n_tokens, item.text) == (len(whole) > 512, len(cut), text)
