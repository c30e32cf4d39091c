"""`gristmill eval retrieval` and `evaluate`, on a model without meaning: what is asked for word for word is first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill import Chunking, Client, Document, InvalidInput
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.retrieval import evaluate
from places import place_of
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]
DOCUMENTS = [Document(id=f"d{n}", text=f"paragraph number {n} is about {'ab'[n % 2]}") for n in range(40)]
QUESTIONS = [Question(each.text, {each.id: 1}, f"q{n}") for n, each in enumerate(DOCUMENTS[:12])]


@pytest.fixture(scope="module", params=["local", "server"])
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:64", threads=4) as client:
        client.create_collection("measured", chunking=Chunking(size=16, overlap=4))
        long = Document(id="long", text=" ".join(f"paragraph number {n}" for n in range(60)))
        client.enqueue("measured", [*DOCUMENTS, long]).wait(60).raise_for_failures()
        yield client
        client.collections.delete("measured")


def test_documents_are_ranked_once_each_and_not_by_their_chunks(mill: Client) -> None:
    found = evaluate(mill, "measured", QUESTIONS)
    assert found.figures["top1"].value == 1
    assert all(len(ids) == len(set(ids)) for ids in found.rankings)


def test_the_whole_ranking_counts_however_deep_a_right_document_is(
    mill: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(mill, "measured", [Question(each.query, {"d39": 1}, each.id) for each in QUESTIONS])
    assert None not in whole.ranks
    assert max(rank or 0 for rank in whole.ranks) > 10
    monkeypatch.setattr("gristmill.evaluation.rankings._FIRST", 3)
    again = evaluate(mill, "measured", whole.questions)
    assert again.figures["mrr"] == whole.figures["mrr"]


def test_fewer_dimensions_rank_by_the_beginning_of_each_vector(mill: Client) -> None:
    searched = evaluate(mill, "measured", QUESTIONS)
    assert evaluate(mill, "measured", QUESTIONS, dimensions=64).figures["mrr"] == searched.figures["mrr"]
    assert evaluate(mill, "measured", QUESTIONS, dimensions=1).figures["mrr"].value < 1
    with pytest.raises(InvalidInput, match="dimensions: expected an integer from 1 to 64"):
        evaluate(mill, "measured", QUESTIONS, dimensions=65)
    with pytest.raises(InvalidInput, match="dimensions: expected None with mode='keyword'"):
        evaluate(mill, "measured", QUESTIONS, dimensions=2, mode="keyword")


def test_expected_documents_that_are_missing_are_named_with_their_share(mill: Client) -> None:
    questions = [*QUESTIONS, Question("lost", {"x1": 1, "d1": 1}, "lost")]
    with pytest.raises(InvalidInput, match=r"1 of 13 questions \(8%\) expect .*'measured' does not hold: 'x1'"):
        evaluate(mill, "measured", questions)
    found = evaluate(mill, "measured", [Question("lost", {"x1": 1}, "lost")], allow_missing=True)
    assert found.ranks == [None]
    with pytest.raises(InvalidInput, match="questions: expected at least one"):
        evaluate(mill, "measured", [])


def test_after_ctrl_c_the_questions_that_were_done_have_their_figures(mill: Client) -> None:
    many = [Question(f"{each.query} {n}", each.expected, f"{n}-{each.id}") for n in range(3) for each in QUESTIONS]

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    found = evaluate(mill, "measured", many, progress=interrupt)
    assert (len(found.questions), found.complete) == (16, False)


def written(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    documents = [each.model_dump(mode="json", include={"id", "text"}) for each in DOCUMENTS]
    questions = [{"query": each.query, "expected": list(each.expected)} for each in QUESTIONS]
    return written(tmp_path / "q.jsonl", questions), written(tmp_path / "d.jsonl", documents)


def test_documents_and_questions_in_files_need_no_server(run: Run, files: tuple[str, str], tmp_path: Path) -> None:
    questions, documents = files
    code, out, _ = run(
        "eval", "retrieval", questions, "--documents", documents, "--model", "hash:64", "--json",
        "--against", "dimensions=1", "--fail-below", "mrr=0.9", "--run-out", str(tmp_path / "run.txt"),
        "--per-question",
    )  # fmt: skip
    found = json.loads(out)
    assert (code, found["questions"], found["top1"], found["top1_high"], found["complete"]) == (0, 12, 1, 1, True)
    for name in ("top1", "recall_at_3", "recall_at_10", "mrr", "ndcg_at_10"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    (comparison,) = found["comparisons"]
    assert comparison["against"]["dimensions"] == 1
    assert comparison["differences"]["mrr"]["difference"] == pytest.approx(1 - comparison["mrr"], abs=1e-5)
    assert len(comparison["won"]) + comparison["tied"] == 12
    assert (tmp_path / "run.txt").read_text().startswith("q1 Q0 d0 1 ")
    assert [each["rank"] for each in found["per_question"]] == [1] * 12


def test_another_model_is_another_configuration(run: Run, files: tuple[str, str]) -> None:
    questions, documents = files
    code, out, err = run(
        "eval", "retrieval", questions, "--documents", documents, "--model", "hash:64", "--against", "model=hash:2",
    )  # fmt: skip
    assert (code, "against documents=" in out, "model=hash:2" in out) == (0, True, True), err
    assert "questions won" in out


def test_a_figure_below_its_floor_ends_with_1_after_all_figures(run: Run, files: tuple[str, str]) -> None:
    questions, documents = files
    call = ("eval", "retrieval", questions, "--documents", documents, "--model", "hash:64", "--fail-below", "mrr_low=1")
    code, out, err = run(*call)
    assert (code, "MRR" in out) == (1, True)
    assert "below: mrr_low is " in err
    code, out, _ = run(*call, "--json")
    assert (code, json.loads(out)["below"][0]["figure"]) == (1, "mrr_low")


def test_a_live_collection_is_searched_as_it_is(run: Run, files: tuple[str, str], embedded: Path) -> None:
    questions, documents = files
    assert run("ingest", documents, "-c", "live", "--json")[0] == 0
    code, out, _ = run("eval", "retrieval", questions, "--collection", "live", "--json")
    assert (code, json.loads(out)["top1"]) == (0, 1)


@pytest.mark.parametrize("absent", ["ir_measures", "scipy.stats"])
def test_without_its_extra_the_command_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    code, _, err = run("eval", "retrieval", "faq", "--model", "hash:16")
    assert (code, "run: pip install 'gristmill[eval]'" in err) == (2, True), err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "expected --collection NAME, or --documents FILE"),
        (("--collection", "a", "--documents", "b"), "expected --collection or --documents, got both"),
        (("--collection", "a", "--model", "hash:64"), "model: expected none beside a collection"),
        (("--documents", "d.jsonl", "--quantization", "int8"), "--on-server"),
        (("--documents", "nowhere.jsonl", "--model", "hash:64"), "nowhere.jsonl"),
        (("--collection", "a", "--fail-below", "mmr=0.8"), "did you mean 'mrr'"),
        (("--collection", "a", "--against", "mod=hybrid"), "did you mean 'mode'"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    run: Run, files: tuple[str, str], embedded: Path, options: tuple[str, ...], told: str
) -> None:
    code, out, err = run("eval", "retrieval", files[0], *options)
    assert (code, out, told in err) == (2, "", True), err


def test_a_reranker_orders_the_candidates_and_the_rest_stands_below(
    run: Run, files: tuple[str, str], tmp_path: Path
) -> None:
    """Words in another order: their vectors are strangers, and what counts words has them all the same."""
    asked = [{"query": " ".join(reversed(each.query.split())), "expected": list(each.expected)} for each in QUESTIONS]
    questions = written(tmp_path / "reversed.jsonl", asked)
    code, out, err = run(
        "eval", "retrieval", questions, "--documents", files[1], "--model", "hash:64", "--reranker", "overlap:40",
        "--rerank-top", "40", "--against", "rerank=false", "--against", '{"rerank_top": 5}', "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert (code, found["top1"]) == (0, 1), err
    without, few = found["comparisons"]
    assert without["top1"] < few["top1"] < 1
    assert few["recall_at_10"] < 1
    assert few["mrr"] - few["top1"] > 0, "what is no candidate has its rank below them"


def test_on_a_server_documents_have_words_and_quantization_and_nothing_of_them_stays(
    run: Run, files: tuple[str, str], qdrant_server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    code, out, err = run(
        "eval", "retrieval", files[0], "--documents", files[1], "--model", "hash:64", "--on-server", "--mode", "hybrid",
        "--against", "mode=keyword", "--against", '{"mode": "dense", "quantization": "int8"}', "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert (code, found["top1"], len(found["comparisons"])) == (0, 1, 2), err
    names = [each.name for each in qdrant_server.client().get_collections().collections]
    assert [name for name in names if name.startswith("gristmill-eval-")] == []


def test_ctrl_c_prints_the_figures_of_what_was_done_and_ends_with_130(
    run: Run, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.evaluation.rankings._TOGETHER", 4)
    search, calls = Client.search_many, iter([False, False, True])

    def interrupted(client: Client, *arguments: Any, **options: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return search(client, *arguments, **options)

    monkeypatch.setattr(Client, "search_many", interrupted)
    code, out, err = run(
        "eval", "retrieval", files[0], "--documents", files[1], "--model", "hash:64", "--against", "mode=x"
    )
    assert (code, "8 questions" in out, "figures are of the questions that were done" in err) == (130, True, True), err
