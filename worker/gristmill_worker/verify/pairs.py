"""Example questions and the passages that answer them, in English and in Chinese, shipped as `pairs.jsonl`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

LANGUAGES: Final = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its passage."""

    language: str
    question: str
    passage: str


def read_pairs() -> tuple[Pair, ...]:
    """The shipped pairs."""
    lines = files(__package__).joinpath("pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(Pair(**json.loads(line)) for line in lines)
