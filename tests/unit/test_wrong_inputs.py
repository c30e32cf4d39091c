"""Every wrong input gets a sentence that names what came, what was expected and what to do next."""

from pathlib import Path

import pytest

from wrong_inputs import WRONG, Wrong, collect, page_of

KEPT = Path(__file__).parents[2] / "docs" / "reference" / "wrong-inputs.md"


@pytest.fixture(scope="module")
def told() -> list[tuple[Wrong, str]]:
    return collect()


def test_each_names_what_came_what_was_expected_and_what_to_do_next(told: list[tuple[Wrong, str]]) -> None:
    assert len(WRONG) >= 60
    lacking = [
        f"{wrong.given}: {part!r} is not in {said!r}"
        for wrong, said in told
        for part in (wrong.came, wrong.expected, wrong.next)
        if part not in said
    ]
    assert lacking == []


def test_none_is_a_traceback_or_of_a_library(told: list[tuple[Wrong, str]]) -> None:
    foreign = ("Traceback", "Bug:", "pydantic", "Input should", "object at 0x", "validation error", "None of")
    assert [said for _, said in told if any(word in said for word in foreign)] == []
    assert [said for _, said in told if not said.isprintable() or len(said) > 700] == []


def test_the_page_shows_them_as_they_are(told: list[tuple[Wrong, str]]) -> None:
    assert KEPT.read_text(encoding="utf-8") == page_of(told), "run: make docs"
