"""A block of code that a page says it takes from a file is what stands in that file, some lines left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXCERPTS = [
    pytest.param(file, block, id=f"{page.name}-{number}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for number, (file, block) in enumerate(
        re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize(("file", "block"), EXCERPTS)
def test_an_excerpt_is_what_stands_in_its_file(file: str, block: str) -> None:
    left = iter((ROOT / file).read_text("utf-8").splitlines())
    missing = [line for line in block.splitlines() if line.strip() and line not in left]
    assert missing == []


def test_there_are_excerpts() -> None:
    assert len(EXCERPTS) >= 5
