"""Scores are those of the models' own cards, whoever shares a batch with whom."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gristmill_schemas.errors import EncodingFailed, WaitTimeout
from gristmill_worker.batching.submission import Lane
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.reranker import Reranker, Scores, open_reranker
from gristmill_worker.reranker.heads import Classifier
from gristmill_worker.reranker.local import LocalReranker
from rerankers import (
    CLASSIFIERS,
    card_scores,
    classifier_scores,
    tiny_modernbert_reranker,
    tiny_qwen3_classifier,
    tiny_qwen3_reranker,
)
from waiting import eventually

QUERY = "用了优惠券但没减钱，应该怎么办？"
#: Short and long, twice the same, of two scripts, and one of a single character.
DOCUMENTS = [
    "请问什么时候发货？",
    "The old mill by the river grinds grain into flour. " * 6,
    "x",
    "请问什么时候发货？",
    "Gravity is a force that attracts two bodies towards each other. 退款需要几天到账？ " * 2,
]
LONG = "Texts of many lengths lie end to end in one row, and attention stays inside each of them. " * 40


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3_reranker(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def reranker(qwen3: Path) -> Iterator[LocalReranker]:
    opened = open_reranker(str(qwen3), device="cpu", dtype="float32", budget_tokens=700)
    assert isinstance(opened, LocalReranker)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=sorted(CLASSIFIERS))
def classifier(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Reranker]]:
    folder = CLASSIFIERS[request.param](tmp_path_factory.mktemp(request.param))
    opened = open_reranker(str(folder), device="cpu", dtype="float32", budget_tokens=700)
    yield folder, opened
    opened.close()


def read(found: Scores) -> list[bool]:
    return [bool(each) for each in found[:, 1]]


@pytest.mark.parametrize("instruction", [None, "Given a customer's complaint, find the FAQ entry that solves it"])
def test_a_qwen3_reranker_gives_the_scores_of_its_card(
    qwen3: Path, reranker: LocalReranker, instruction: str | None
) -> None:
    expected = card_scores(qwen3, QUERY, DOCUMENTS, instruction)
    assert np.ptp(expected) > 0.01
    together = reranker.score(QUERY, DOCUMENTS, instruction)
    alone = np.concatenate([reranker.score(QUERY, [each], instruction) for each in DOCUMENTS])
    np.testing.assert_allclose(together[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(alone[:, 0], expected, atol=1e-5)
    assert read(together) == [True] * 5


def test_packed_and_padded_give_the_same_scores(qwen3: Path, reranker: LocalReranker) -> None:
    padded = open_reranker(str(qwen3), device="cpu", dtype="float32", budget_tokens=700, packed=False)
    np.testing.assert_allclose(padded.score(QUERY, DOCUMENTS), reranker.score(QUERY, DOCUMENTS), atol=1e-5)
    padded.close()


def test_a_classifier_gives_the_scores_of_its_card(classifier: tuple[Path, Reranker]) -> None:
    folder, reranker = classifier
    expected = classifier_scores(folder, QUERY, DOCUMENTS, 256)
    assert np.ptp(expected) > 1e-3
    alone = np.concatenate([reranker.score(QUERY, [each]) for each in DOCUMENTS])
    np.testing.assert_allclose(reranker.score(QUERY, DOCUMENTS)[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(alone[:, 0], expected, atol=1e-5)


def test_a_classifier_that_two_threads_ask_gives_each_its_own_scores() -> None:
    config: Any = transformers.BertConfig
    shape = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 1}
    kind: Any = transformers.BertForSequenceClassification
    whole = kind(config(**shape, intermediate_size=8)).eval()
    head = Classifier(whole).requires_grad_(False)
    both = threading.Barrier(2)

    def meet(*_: Any) -> None:
        """Each has been given its state before either reads one."""
        both.wait(60)

    meeting = whole.register_forward_pre_hook(meet)
    states = [torch.linspace(-1, 1, 8).expand(rows, 8) * sign for rows, sign in ((2, 1.0), (2, -1.0))]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(head, states))
    meeting.remove()
    for rows, state in zip(found, states, strict=True):
        torch.testing.assert_close(rows, head(state))


def test_a_modernbert_that_reads_its_first_token_gives_the_scores_of_its_card(tmp_path: Path) -> None:
    reranker = open_reranker(str(tiny_modernbert_reranker(tmp_path, "cls")), dtype="float32", budget_tokens=700)
    np.testing.assert_allclose(
        reranker.score(QUERY, DOCUMENTS)[:, 0], classifier_scores(tmp_path, QUERY, DOCUMENTS), atol=1e-5
    )
    reranker.close()


def test_a_qwen3_reranker_as_a_classifier_is_asked_the_same_question(tmp_path: Path) -> None:
    reranker = open_reranker(str(tiny_qwen3_classifier(tmp_path)), dtype="float32", budget_tokens=700)
    assert isinstance(reranker, LocalReranker)
    pairs = reranker._pairs.pairs(QUERY, DOCUMENTS)
    kind: Any = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = [model(input_ids=torch.from_numpy(pair.ids.astype(np.int64))[None]).logits for pair in pairs]
    np.testing.assert_allclose(reranker.score(QUERY, DOCUMENTS)[:, 0], torch.cat(rows).sigmoid()[:, 0], atol=1e-5)
    reranker.close()


def test_of_a_long_document_the_end_is_cut_and_its_row_says_so(qwen3: Path) -> None:
    reranker = open_reranker(str(qwen3), dtype="float32", budget_tokens=700, max_tokens=600)
    found = reranker.score(QUERY, [DOCUMENTS[0], LONG])
    np.testing.assert_allclose(found[:, 0], card_scores(qwen3, QUERY, [DOCUMENTS[0], LONG], max_length=600), atol=1e-5)
    assert read(found) == [True, False]
    reranker.close()


def test_of_a_pair_the_second_text_is_cut_and_never_the_first(classifier: tuple[Path, Reranker]) -> None:
    folder, reranker = classifier
    window = reranker.info.max_tokens
    found = reranker.score(QUERY, ["short", LONG])
    np.testing.assert_allclose(found[:, 0], classifier_scores(folder, QUERY, ["short", LONG], window), atol=1e-5)
    assert read(found) == [True, False]


def test_a_query_that_leaves_no_room_for_a_document_is_refused(classifier: tuple[Path, Reranker]) -> None:
    with pytest.raises(EncodingFailed, match=r"query: expected fewer than \d+ tokens.*shorten it"):
        classifier[1].score(LONG, ["a document"])


def test_no_documents_give_no_scores(reranker: LocalReranker) -> None:
    assert reranker.score(QUERY, []).shape == (0, 2)


def test_what_nobody_waits_for_any_more_is_given_up_between_batches(reranker: LocalReranker) -> None:
    looks = iter([False, True])
    with pytest.raises(WaitTimeout, match="reranking"):
        reranker.score(QUERY, [LONG[:1500]] * 4, expired=lambda: next(looks))


def test_a_short_request_does_not_wait_for_anothers_hundred_documents(
    reranker: LocalReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    launch = reranker._encoder._launch
    launched: list[int] = []

    def held(batch: Sequence[TokenizedText], unlike: Callable[[], bool]) -> Callable[[], Vectors]:
        launched.append(len(batch))
        if len(launched) == 1:
            started.set()
            assert go_on.wait(60)
        return launch(batch, unlike)

    monkeypatch.setattr(reranker._encoder, "_launch", held)
    ended: list[str] = []

    def ask(name: str, documents: list[str]) -> None:
        reranker.score(QUERY, documents)
        ended.append(name)

    long = threading.Thread(target=ask, args=("long", [LONG[:1500]] * 8))
    short = threading.Thread(target=ask, args=("short", ["one"]))
    long.start()
    assert started.wait(60)
    short.start()
    # Where several launches run at once it waits for none; else it is next.
    eventually(lambda: ended or reranker.batcher._lanes[Lane.INTERACTIVE])
    go_on.set()
    for thread in (short, long):
        thread.join(60)
    assert ended == ["short", "long"]
    # After the launch that ran when it came.
    assert len(launched) > 3
