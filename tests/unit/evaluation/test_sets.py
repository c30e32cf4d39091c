"""The labelled data that ships: what it says of itself is so."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from gristmill.evaluation import sets
from gristmill.evaluation.questions import read_questions

FAQ = {document.id: document for document in sets.faq().documents}


def bigrams(text: str) -> set[str]:
    runs = re.findall(r"[\u4e00-\u9fffA-Za-z0-9]+", text)
    return {run[at : at + 2] for run in runs for at in range(len(run) - 1)}


def test_the_faq_is_numbered_without_gaps_and_has_no_duplicates() -> None:
    assert list(FAQ) == [f"faq-{number:03}" for number in range(1, len(FAQ) + 1)]
    assert len(FAQ) >= 120
    assert len({document.metadata["question"] for document in FAQ.values()}) == len(FAQ)
    assert len({document.text.split("\n", 1)[1] for document in FAQ.values()}) == len(FAQ)


def test_every_faq_entry_is_a_question_and_an_answer_of_a_few_sentences() -> None:
    for document in FAQ.values():
        question, answer = document.text.split("\n")
        assert question == f"问：{document.metadata['question']}"
        assert answer.startswith("答：")
        assert 2 <= len(re.findall(r"[。；？]", answer)) <= 7, document.id
        assert 40 <= len(answer) <= 200, document.id
        assert document.metadata["lang"] == "zh"


def test_no_two_faq_entries_say_nearly_the_same() -> None:
    sets = [(document.id, bigrams(document.text)) for document in FAQ.values()]
    for at, (one, first) in enumerate(sets):
        for other, second in sets[at + 1 :]:
            assert len(first & second) < 0.5 * min(len(first), len(second)), (one, other)


def test_the_faq_covers_many_departments_and_none_dominates() -> None:
    categories = Counter(document.metadata["category"] for document in FAQ.values())
    assert len(categories) >= 20
    assert max(categories.values()) <= 12


def test_every_labelled_question_names_an_entry_and_is_asked_once() -> None:
    labelled = sets.faq().questions
    assert len(labelled) >= 40
    assert len({question.query for question in labelled}) == len(labelled)
    assert {each for question in labelled for each in question.expected} <= FAQ.keys()


def test_labelled_questions_share_next_to_no_words_with_their_answers() -> None:
    shared = [
        bigrams(question.query) & bigrams(FAQ[each].text)
        for question in sets.faq().questions
        for each in question.expected
    ]
    assert max(map(len, shared)) <= 2
    assert sum(1 for words in shared if not words) > len(shared) / 2


TECHNICAL = {document.id: document for document in sets.technical().documents}


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= each <= "\u9fff" for each in text)


def test_the_faq_has_a_question_for_each_entry_and_all_in_chinese() -> None:
    labelled = sets.faq().questions
    assert len(labelled) >= 120
    assert {each for question in labelled for each in question.expected} == set(FAQ)
    assert [question.query for question in labelled if not is_chinese(question.query)] == []


def test_the_technical_set_has_sixty_questions_in_two_languages_across_its_pages() -> None:
    labelled = sets.technical().questions
    assert len(labelled) == len({question.query for question in labelled}) == 60
    chinese = sum(is_chinese(question.query) for question in labelled)
    assert 20 <= chinese <= 40
    languages = [
        (is_chinese(question.query), TECHNICAL[each].metadata["lang"] == "zh")
        for question in labelled
        for each in question.expected
    ]
    assert Counter(languages).keys() == {(True, True), (True, False), (False, True), (False, False)}


def test_technical_questions_are_answered_by_pages_that_solve_and_beside_them_stand_those_that_introduce() -> None:
    expected = {each for question in sets.technical().questions for each in question.expected}
    assert {TECHNICAL[each].metadata["role"] for each in expected} == {"solves"}
    about = _by_role()
    assert about["solves"] - about["introduces"] == set()
    assert len(about["near"]) >= 5
    assert len({document.text for document in TECHNICAL.values()}) == len(TECHNICAL)


def _by_role() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for document in TECHNICAL.values():
        found.setdefault(document.metadata["role"], set()).add(document.metadata["about"])
    return found


def test_the_records_of_every_set_have_the_form_that_users_write(tmp_path: Path) -> None:
    for name, make in sets.LABELLED.items():
        file = tmp_path / f"{name}.jsonl"
        lines = (json.dumps(each, ensure_ascii=False) for each in sets.records(f"{name}_questions"))
        file.write_text("\n".join(lines), encoding="utf-8")
        assert [each.query for each in read_questions(file)] == [each.query for each in make().questions]
