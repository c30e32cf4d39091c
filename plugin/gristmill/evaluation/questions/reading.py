"""Labelled questions out of files: JSON Lines, a BEIR folder, TREC qrels with their topics; or those that ship, by name.

{"query": "用了优惠券但没减钱", "expected": "faq-071"}                      a line of JSONL; `expected` may be a list
{"query": "…", "expected": {"faq-071": 2, "faq-074": 1}, "id": "q7"}     or grades, and the question may have a name
folder/queries.jsonl, folder/qrels/test.tsv, folder/corpus.jsonl         BEIR, as its own loader reads it
301 0 FBIS3-10082 1                                                      qrels; their topics: `301<TAB>query`, or JSONL
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gristmill.arguments import identifier, integer, refuse, text
from gristmill.evaluation import sets
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.questions.lines import STDIN, Problems, numbered_lines
from gristmill.evaluation.questions.public_sets import find_public_set
from gristmill.readers import Item
from gristmill.readers.files.lines import BadLine
from gristmill.readers.jsonl import parse_object
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_QUERY_BYTES
from gristmill_schemas.validation import shown

_FIELDS = ("query", "expected", "id")
#: Last columns of a heading above qrels.
_HEADINGS = ("score", "relevance", "rel", "label")
#: What others call them.
_ELSEWHERE = {
    **dict.fromkeys(("question", "text", "q", "input"), "query"),
    **dict.fromkeys(("answer", "relevant", "ids", "expected_id", "expected_ids", "document", "label"), "expected"),
    **dict.fromkeys(("qid", "_id", "query_id"), "id"),
}


def read_questions(source: str | Path, *, queries: str | Path | None = None, split: str = "test") -> list[Question]:
    """Labelled questions, in their order.

    Args:
        source: a JSONL file, `-` for standard input, a BEIR folder, a qrels file, the name of a set that ships (`faq`,
            `technical`), or of a public one whose folder lies here.
        queries: the topics of qrels.
        split: which qrels of a BEIR folder.

    Raises:
        InvalidInput: a file is not there or cannot be read, a line is wrong, or there is no question in it. The message
            names file and line.
    """
    name = str(source)
    path = Path(source)
    if name in sets.LABELLED and not path.exists():
        return list(sets.LABELLED[name]().questions)
    if name != STDIN and not path.exists():
        path = find_public_set(name)
    found = _from_path(path, None if queries is None else Path(queries), split)
    if not found:
        raise InvalidInput(f"{path}: expected labelled questions, got none", field="questions")
    return found


def _from_path(path: Path, queries: Path | None, split: str) -> list[Question]:
    if path.is_dir():
        return _of_beir(path, split)
    if queries is not None:
        return _joined(path, _qrels(path), _topics(queries))
    if _looks_like_qrels(path):
        raise InvalidInput(
            f"queries: {path} looks like qrels, which have the questions' ids alone: expected their topics as well, "
            "--queries FILE (`id<TAB>query`, or JSONL)",
            field="queries",
        )
    return _of_lines(path)


def _looks_like_qrels(path: Path) -> bool:
    if str(path) == STDIN:
        return False
    first = next((line for _, line in numbered_lines(path)), "{")
    return not first.lstrip().startswith(("{", "[", '"')) and len(first.split()) in (3, 4)


def _of_lines(path: Path) -> list[Question]:
    problems = Problems(path)
    found: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        with problems.of_line(number):
            question = _question(parse_object(line), f"q{number}")
            if (before := seen.setdefault(question.query, number)) != number:
                raise InvalidInput(
                    f"query: expected each once, got that of line {before} again: {shown(question.query)}; "
                    "several right documents are a list: `expected`: [ID, ID]"
                )
            found.append(question)
    problems.raise_any()
    return _named_once(path, found)


def _named_once(path: Path, questions: list[Question]) -> list[Question]:
    seen: set[str] = set()
    for each in questions:
        if each.id in seen:
            raise InvalidInput(f"{path}: id: expected each once, got {shown(each.id)} again")
        seen.add(each.id)
    return questions


def _question(record: dict[str, Any], name: str) -> Question:
    for field in record:
        if field not in _FIELDS:
            raise InvalidInput(f"{field}: expected {', '.join(_FIELDS)}, got another field{_hint(field)}")
    for field in ("query", "expected"):
        if field not in record:
            raise InvalidInput(f"{field}: expected it, got a record without it")
    query = text("query", record["query"], MAX_QUERY_BYTES)
    return Question(query, _expected(record["expected"]), identifier("id", record.get("id", name)))


def _hint(field: str) -> str:
    close = difflib.get_close_matches(field, _FIELDS, n=1)
    meant = _ELSEWHERE.get(field.lower()) or (close[0] if close else None)
    return f"; did you mean {meant!r}?" if meant else ""


def _expected(value: Any) -> Mapping[str, int]:
    if isinstance(value, Mapping):
        graded = {identifier("expected", each): integer("expected", grade, 0) for each, grade in value.items()}
        right = {each: grade for each, grade in graded.items() if grade > 0}
    elif isinstance(value, list):
        right = {identifier(f"expected[{position}]", each): 1 for position, each in enumerate(value)}
    else:
        right = {identifier("expected", value): 1}
    if not right:
        raise refuse("expected", "the id of a document, or a list of ids", value)
    return right


def _of_beir(folder: Path, split: str) -> list[Question]:
    queries = _one_of(folder, "queries.jsonl", "queries.jsonl.gz")
    for found in (folder / "qrels" / f"{split}.tsv", folder / "qrels" / f"{split}.jsonl"):
        if found.exists():
            return _joined(found, _qrels(found), _topics(queries))
    known = sorted(each.stem for each in (folder / "qrels").glob("*.*"))
    raise refuse("split", f"one of {folder}/qrels: {', '.join(known) or 'it has none'}", split)


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InvalidInput(
        f"{folder}: expected a folder as BEIR has it: corpus.jsonl, queries.jsonl and qrels/test.tsv; {names[0]} is missing"
    )


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    """Grades above 0 by topic and document."""
    problems = Problems(path)
    found: dict[str, dict[str, int]] = {}
    for number, line in numbered_lines(path):
        with problems.of_line(number):
            if number > 1 or line.split()[-1] not in _HEADINGS:
                topic, document, grade = _qrel(line)
                if (told := _grade(grade)) > 0:
                    found.setdefault(topic, {})[document] = told
    problems.raise_any()
    return found


def _qrel(line: str) -> tuple[str, str, Any]:
    """Topic, document, grade: BEIR's three columns, TREC's four, or MTEB's JSON."""
    if line.startswith("{"):
        record = parse_object(line)
        return str(_of(record, "query-id")), str(_of(record, "corpus-id")), _of(record, "score")
    columns = line.split("\t") if "\t" in line else line.split()
    if len(columns) not in (3, 4):
        raise refuse("qrels", "`topic 0 document grade`, or BEIR's `topic document grade`", line)
    return columns[0], columns[-2], columns[-1]


def _grade(column: Any) -> int:
    try:
        return int(column)
    except (TypeError, ValueError):
        raise refuse("grade", "an integer", column) from None


def _topics(path: Path) -> Iterator[tuple[str, str]]:
    problems = Problems(path)
    for number, line in numbered_lines(path):
        with problems.of_line(number):
            yield _topic(line)
    problems.raise_any()


def _topic(line: str) -> tuple[str, str]:
    if line.lstrip().startswith("{"):
        record = parse_object(line)
        name, query = _of(record, "_id", "id"), _of(record, "text", "query")
    else:
        name, _, query = line.partition("\t")
    return identifier("id", name), text("query", query, MAX_QUERY_BYTES)


def _of(record: Mapping[str, Any], *names: str) -> Any:
    """The field that goes by one of these names."""
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise InvalidInput(f"{names[-1]}: expected it ({' or '.join(names)}), got a record without it", field=names[-1])


def _joined(path: Path, grades: Mapping[str, Mapping[str, int]], topics: Iterable[tuple[str, str]]) -> list[Question]:
    found = [Question(query, grades[name], name) for name, query in topics if name in grades]
    if left := grades.keys() - {each.id for each in found}:
        some = ", ".join(sorted(left)[:5])
        raise InvalidInput(
            f"{path}: expected the query of each topic, got none for {len(left)} of {len(grades)}: {some}"
        )
    return found


def documents_beside(source: str | Path) -> Callable[[], Iterable[Item]] | None:
    """What makes the documents that come with a set: one that ships, or a BEIR folder; None for questions alone."""
    path = Path(source)
    if str(source) in sets.LABELLED and not path.exists():
        return lambda: sets.LABELLED[str(source)]().documents
    folder = path if path.exists() or str(source) == STDIN else find_public_set(str(source))
    if not folder.is_dir():
        return None
    return lambda: _corpus(_one_of(folder, "corpus.jsonl", "corpus.jsonl.gz"))


def _corpus(path: Path) -> Iterator[Item]:
    """BEIR's documents: title and text are joined by a blank, as its own models read them. Some have neither."""
    for number, line in numbered_lines(path):
        try:
            record = parse_object(line)
            whole = f"{record.get('title') or ''} {record.get('text') or ''}".strip()
            yield Document(id=record.get("_id", record.get("id")), text=whole)
        except (BadLine, InvalidInput) as error:
            yield Rejection(position=number, source=str(path), reason=str(error))
