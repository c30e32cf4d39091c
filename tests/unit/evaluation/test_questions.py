"""Labelled questions out of files: every form is read, and what is wrong is named with its line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gristmill import Document, InvalidInput, Rejection
from gristmill.evaluation.questions import documents_beside, read_questions


def written(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_question_expects_one_document_several_or_graded_ones(tmp_path: Path) -> None:
    file = written(
        tmp_path / "q.jsonl",
        {"query": "一", "expected": "a"},
        {"query": "二", "expected": ["a", "b"]},
        {"query": "三", "expected": {"a": 2, "b": 1, "c": 0}, "id": "third"},
        {"query": "four", "expected": 4},
    )
    found = read_questions(file)
    assert [dict(each.expected) for each in found] == [{"a": 1}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"4": 1}]
    assert [each.id for each in found] == ["q1", "q2", "third", "q4"]


def test_questions_come_through_a_pipe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"query": "q", "expected": "a"}\n'))
    assert [each.query for each in read_questions("-")] == ["q"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"query": "x"}, "expected: expected it"),
        ({"expected": "a"}, "query: expected it"),
        ({"query": "x", "expected": []}, "expected: expected the id"),
        ({"query": "x", "expected": [""]}, r"expected\[0\]"),
        ({"query": " ", "expected": "a"}, "query: expected text"),
        ({"query": 7, "expected": "a"}, "query: expected"),
        ({"question": "x", "expected": "a"}, "did you mean 'query'"),
        ({"query": "x", "expectd": "a"}, "did you mean 'expected'"),
        ({"query": "first", "expected": "b"}, "got that of line 1 again"),
        ("[1]", "expected an object per line, got list"),
        ('{"query": ', "JSON"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, line: Any, told: str) -> None:
    file = written(tmp_path / "q.jsonl", {"query": "first", "expected": "a"}, line)
    with pytest.raises(InvalidInput, match=rf"q\.jsonl:2: .*{told}"):
        read_questions(file)


def test_all_wrong_lines_are_told_at_once_and_many_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"(?s):1: .*:5: .*and 3 more"):
        read_questions(written(tmp_path / "q.jsonl", *["{}"] * 8))


@pytest.mark.parametrize(("content", "told"), [("", "got none"), (b"\xff\xfe", "UTF-8")])
def test_a_file_without_questions_says_so(tmp_path: Path, content: str | bytes, told: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidInput, match=told):
        read_questions(file)


def beir(folder: Path) -> Path:
    written(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "Redis", "text": "in memory"},
        {"_id": "d2", "title": "", "text": "on disk"},
        {"_id": "d3", "title": "", "text": ""},
    )
    written(
        folder / "queries.jsonl", {"_id": "1", "text": "fast"}, {"_id": "2", "text": "slow"}, {"_id": "3", "text": "no"}
    )
    written(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", "1\td1\t2", "1\td2\t0", "2\td2\t1")
    return folder


def test_a_beir_folder_gives_its_questions_and_its_documents(tmp_path: Path) -> None:
    folder = beir(tmp_path / "scifact")
    assert [(each.id, each.query, dict(each.expected)) for each in read_questions(folder)] == [
        ("1", "fast", {"d1": 2}),
        ("2", "slow", {"d2": 1}),
    ]
    documents = documents_beside(folder)
    assert documents is not None
    *found, empty = documents()
    assert [(each.id, each.text) for each in found if isinstance(each, Document)] == [
        ("d1", "Redis in memory"),
        ("d2", "on disk"),
    ]
    assert isinstance(empty, Rejection)
    assert str(empty).startswith(f"{folder}/corpus.jsonl:3")
    with pytest.raises(InvalidInput, match=r"split: expected one of .*: test, got 'dev'"):
        read_questions(folder, split="dev")


def test_a_public_set_is_found_by_its_name_or_says_how_to_get_it_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"scifact is not here .*BEIR/datasets/scifact\.zip.*hf-mirror"):
        read_questions("BEIR/SciFact")
    with pytest.raises(InvalidInput, match=r"hf download C-MTEB/DuRetrieval-qrels.*HF_ENDPOINT"):
        read_questions("mteb/DuRetrieval")
    beir(tmp_path / "scifact")
    assert len(read_questions("beir/scifact")) == 2


def test_qrels_need_their_topics(tmp_path: Path) -> None:
    qrels = written(tmp_path / "qrels.txt", "301 0 d1 1", "302 0 d2 0", "303 0 d3 3")
    with pytest.raises(InvalidInput, match=r"looks like qrels.*--queries"):
        read_questions(qrels)
    topics = written(tmp_path / "topics.tsv", "301\tfirst", "303\tthird")
    assert [(each.id, dict(each.expected)) for each in read_questions(qrels, queries=topics)] == [
        ("301", {"d1": 1}),
        ("303", {"d3": 3}),
    ]
    with pytest.raises(InvalidInput, match="got none for 1 of 2: 303"):
        read_questions(qrels, queries=written(tmp_path / "half.tsv", "301\tfirst"))


def test_a_name_that_is_none_has_the_nearest_beside_it() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'technical'"):
        read_questions("technicl")
    with pytest.raises(InvalidInput, match="sets that ship: faq, technical"):
        read_questions("nowhere/questions.xyz")


def test_topics_and_qrels_without_a_name_are_told_by_line(tmp_path: Path) -> None:
    qrels = written(tmp_path / "qrels.jsonl", '{"query-id": "1", "corpus-id": "d1", "score": 1}', '{"corpus-id": "d1"}')
    topics = written(tmp_path / "topics.jsonl", '{"query": "first"}')
    with pytest.raises(InvalidInput, match=r"qrels.jsonl:2: query-id: expected it .*got a record without it"):
        read_questions(qrels, queries=topics)
    whole = written(tmp_path / "whole.txt", "1 0 d1 1")
    with pytest.raises(InvalidInput, match=r"topics.jsonl:1: id: expected it \(_id or id\)"):
        read_questions(whole, queries=topics)
