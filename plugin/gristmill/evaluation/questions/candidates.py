"""Candidate instructions out of a file: one a line, or English and Chinese pairs.

Given a complaint, find the FAQ entry that solves it                                   a sentence
{"en": "Given a complaint, find …", "zh": "给定一条投诉，找出……"}       a pair, or any named texts: a candidate each
# what is being tried here                                                             no candidate
"""

from __future__ import annotations

from pathlib import Path

from gristmill.arguments import refuse
from gristmill.evaluation.questions.lines import Problems, numbered_lines
from gristmill.readers.jsonl import parse_object
from gristmill.search.instructions import PRESETS


def read_candidates(path: Path) -> list[str]:
    """Instructions of a file, in its order. Raises InvalidInput for a line that is wrong, or where there are none."""
    problems = Problems(path)
    found: list[str] = []
    for number, line in numbered_lines(path):
        with problems.of_line(number):
            found += _of_line(line.strip())
    problems.raise_any()
    if not found:
        raise refuse("from-file", "a file with instructions, one a line", str(path))
    return found


def _of_line(line: str) -> list[str]:
    if line.startswith("#"):
        return []
    if not line.startswith("{"):
        return [line]
    record = parse_object(line)
    for name, value in record.items():
        if not isinstance(value, str) or not value.strip():
            raise refuse(name, "an instruction", value)
    return list(record.values())


def preset_pair(name: str) -> list[str]:
    """A preset in English and in Chinese, by its name; `all`: every one. Raises InvalidInput for another name."""
    word = name.removeprefix("preset:")
    found = [each.reference for each in PRESETS if word in (each.name, "all")]
    if not found:
        known = ", ".join(dict.fromkeys(each.name for each in PRESETS))
        raise refuse("preset", f"one of {known}, all", name)
    return found
