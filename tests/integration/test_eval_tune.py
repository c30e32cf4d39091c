"""The instruction lab: on a toy model that follows instructions it finds the planted one, and says what the others do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding_server import SIZE, EmbeddingServer, embedding_server
from gristmill import Client, Document, InvalidInput
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.tuning import Verdict, halves, tune
from gristmill_worker.encoder import Vectors
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.hash_encoder import HashEncoder

Run = Callable[..., tuple[int, str, str]]
PLANTED = "Given a problem, find the page that solves it"
HARMFUL = "Write a poem about the weather"
IDLE = ["Given a question, retrieve relevant passages", "给定一个问题，检索相关段落"]
QUESTIONS = [Question(f"trouble {n}", {f"solving-{n}": 1}, f"q{n}") for n in range(40)]
DOCUMENTS = [
    Document(id=f"{kind}-{n}", text=f"a page {kind} trouble {n}")
    for n in range(40)
    for kind in ("introducing", "solving")
]


class Follower(HashEncoder):
    """Two pages about each trouble are equally near; the last number says which kind, and an instruction which is wanted."""

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        return np.stack([self._vector(each.text) for each in batch])

    def _vector(self, text: str) -> Vectors:
        about = re.findall(r"trouble (\d+)", text)
        (content,) = super().encode(self.tokenize([f"number {about[-1]}" if about else text]))
        vector = np.append(content[: SIZE - 1] / np.linalg.norm(content[: SIZE - 1]), 0.1).astype(np.float32)
        if PLANTED in text or "a page solving" in text:
            vector[-1] = -0.1
        return -vector if HARMFUL in text else vector


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        running.models = ["Qwen/Qwen3-Embedding-0.6B"]
        running.truth = Follower(SIZE, max_tokens=2**20)
        yield running


@pytest.fixture(scope="module")
def mill(server: EmbeddingServer) -> Iterator[Client]:
    with Client.embedded(model=server.url, threads=4) as client:
        client.create_collection("pages")
        client.enqueue("pages", DOCUMENTS).wait(60).raise_for_failures()
        yield client


def test_the_planted_instruction_wins_and_each_candidate_is_told_what_it_does(mill: Client) -> None:
    found = tune(mill, "pages", QUESTIONS, [*IDLE, HARMFUL, PLANTED, "preset:web"])
    assert found.winner is not None
    assert (found.winner.instruction, found.verdict) == (PLANTED, Verdict.HELPS)
    assert (found.none_tuned, found.winner.tuned, found.best_held_out.value) == (0.5, 1, 1)
    assert found.gain.value == pytest.approx(0.5)
    assert found.gain.low > 0.3
    assert (len(found.held_out.won), len(found.held_out.lost), found.held_out_on) == (20, 0, 20)
    verdicts = {each.instruction: each.verdict for each in found.tried}
    assert verdicts == {
        PLANTED: Verdict.HELPS,
        HARMFUL: Verdict.HURTS,
        **dict.fromkeys([*IDLE, "preset:web@1"], Verdict.NOTHING),
    }


def test_where_no_candidate_is_ahead_no_instruction_wins(mill: Client) -> None:
    found = tune(mill, "pages", QUESTIONS, IDLE)
    assert (found.winner, found.verdict, found.gain.value, found.gain.p_value) == (None, Verdict.NOTHING, 0, 1)
    harmful = tune(mill, "pages", QUESTIONS, HARMFUL)
    assert (harmful.winner, harmful.verdict) == (None, Verdict.HURTS)
    assert harmful.gain.high < 0


def test_documents_are_not_encoded_again_and_queries_go_in_batches(mill: Client, server: EmbeddingServer) -> None:
    server.requests.clear()
    tune(mill, "pages", QUESTIONS, [*IDLE, PLANTED])
    texts = [text for request in server.requests for text in request["input"]]
    assert not any(text.startswith("a page") for text in texts)
    assert len(server.requests) <= 12


def test_the_halves_are_the_same_for_a_seed_and_share_no_question() -> None:
    chooses, held = halves(41, 3)
    assert (len(chooses), len(held)) == (20, 21)
    assert sorted(chooses + held) == list(range(41))
    assert halves(41, 3) == (chooses, held)
    assert halves(41, 4) != (chooses, held)


def test_after_ctrl_c_the_candidates_that_were_done_are_told(mill: Client) -> None:
    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    found = tune(mill, "pages", QUESTIONS, [PLANTED, *IDLE], progress=interrupt)
    assert (found.complete, [each.instruction for each in found.tried]) == (False, [PLANTED, IDLE[0]])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"candidates": []}, "candidates: expected at least one"),
        ({"candidates": ["nosuchname"]}, r"candidates\[0\]: expected a registered name"),
        ({"candidates": IDLE, "figure": "mmr"}, "did you mean 'mrr'"),
        ({"candidates": IDLE, "questions": QUESTIONS[:3]}, "questions: expected at least 4"),
        ({"candidates": IDLE, "seed": -1}, "seed: expected an integer from 0"),
        ({"candidates": IDLE, "lens": "legal"}, "lens: expected None"),
    ],
)
def test_a_wrong_argument_is_named(mill: Client, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        tune(mill, "pages", **{"questions": QUESTIONS, **arguments})


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    questions, candidates = tmp_path / "q.jsonl", tmp_path / "c.txt"
    lines = ({"query": each.query, "expected": list(each.expected)} for each in QUESTIONS)
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    pair = json.dumps({"en": IDLE[0], "zh": IDLE[1]}, ensure_ascii=False)
    candidates.write_text(f"# tried here\n{PLANTED}\n{pair}\n", encoding="utf-8")
    return str(questions), str(candidates)


def test_the_winner_is_registered_as_a_new_version(
    run: Run, embedded: Path, monkeypatch: pytest.MonkeyPatch, server: EmbeddingServer, files: tuple[str, str]
) -> None:
    monkeypatch.setenv("GRISTMILL_MODEL", server.url)
    documents = embedded / "d.jsonl"
    documents.write_text("\n".join(each.model_dump_json(include={"id", "text"}) for each in DOCUMENTS))
    assert run("ingest", str(documents), "-c", "pages", "--json")[0] == 0
    call = ("eval", "tune", files[0], "--collection", "pages", "--from-file", files[1], "--preset", "docs")
    code, out, err = run(*call, "--register", "pages", "--json")
    found = json.loads(out)
    assert (code, found["winner"]["text"], found["verdict"]) == (0, PLANTED, "helps"), err
    assert (found["registered"], len(found["candidates"])) == ("pages@1", 5)
    code, out, err = run("eval", "tune", files[0], "-c", "pages", "-i", IDLE[0], "--register", "pages")
    assert (code, "does nothing" in out, "registered nothing" in out) == (0, True, True), err
    code, out, _ = run("instructions", "list", "pages", "--json")
    assert [each["text"] for each in json.loads(out)["instructions"]] == [PLANTED]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--register", "best", "--documents", "d.jsonl"), "register: expected --collection NAME"),
        (("-c", "pages", "--preset", "nosuch"), "preset: expected one of web, faq"),
        (("-c", "pages", "--from-file", "nosuch.txt"), "nosuch.txt: expected a readable file"),
        (("-c", "pages", "--figure", "ndgc"), "did you mean 'ndcg_at_10'"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    run: Run, embedded: Path, files: tuple[str, str], options: tuple[str, ...], told: str
) -> None:
    code, out, err = run("eval", "tune", files[0], *options)
    assert (code, out, told in err) == (2, "", True), err
