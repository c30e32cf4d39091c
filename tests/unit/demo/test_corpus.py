from __future__ import annotations

import re
from pydoc_data.topics import topics

import pytest

from gristmill_worker.demo.corpus import Showcase, faq, language_reference, showcase
from gristmill_worker.demo.reference import MAX_CHARS, pack, split_sections

FAQ = {document.id: document for document in faq()}
REFERENCE = list(language_reference())


def bigrams(text: str) -> set[str]:
    runs = re.findall(r"[\u4e00-\u9fffA-Za-z0-9]+", text)
    return {run[at : at + 2] for run in runs for at in range(len(run) - 1)}


@pytest.mark.parametrize("search", [search for search in showcase() if search.corpus == "faq"])
def test_a_chinese_showcase_question_shares_no_bigram_with_its_answer(search: Showcase) -> None:
    assert not bigrams(search.query) & bigrams(FAQ[search.expected].text)


def test_the_showcase_asks_one_question_under_two_instructions() -> None:
    instructed = [search for search in showcase() if search.instruction]
    assert len({search.instruction for search in instructed}) == 2
    assert len({search.query for search in instructed}) == 1
    assert len({search.expected for search in instructed}) == 2


def test_the_reference_has_stable_unique_ids_and_no_text_twice() -> None:
    assert list(language_reference()) == REFERENCE
    assert len({document.id for document in REFERENCE}) == len(REFERENCE) > 400
    assert len({document.text.split("\n\n", 1)[1] for document in REFERENCE}) == len(REFERENCE)


def test_every_passage_of_the_reference_says_where_it_stands() -> None:
    for document in REFERENCE:
        assert document.text.startswith(document.metadata["title"])
        assert document.metadata["topic"] in topics


def test_no_word_of_the_reference_is_lost() -> None:
    kept = "\n".join(document.text for document in REFERENCE)
    for topic in topics.values():
        for section in split_sections(topic):
            for passage in pack(section.body):
                assert passage in kept


def test_sections_know_their_parents() -> None:
    text = "Top\n***\n\na\n\n\nOne\n===\n\nb\n\n\nDeep\n----\n\nc\n\n\nTwo\n===\n\nd\n"
    titles = [section.titles for section in split_sections(text)]
    assert titles == [("Top",), ("Top", "One"), ("Top", "One", "Deep"), ("Top", "Two")]


def test_an_indented_paragraph_stays_with_the_one_above() -> None:
    assert list(pack("f(x)\n\n   Returns x.\n\ng(x)\n\n   Returns y.")) == [
        "f(x)\n\n   Returns x.",
        "g(x)\n\n   Returns y.",
    ]


def test_a_passage_outgrows_the_limit_only_where_one_paragraph_does() -> None:
    long = "word " * MAX_CHARS
    assert [len(passage) > MAX_CHARS for passage in pack(f"short\n\n{long}\n\nshort")] == [False, True, False]


def test_an_empty_section_has_no_passages() -> None:
    assert list(pack("\n \n")) == []
