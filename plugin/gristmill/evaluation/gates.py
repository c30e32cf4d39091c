"""Least values of figures, for CI: `mrr=0.8`, or of an interval's lower end, `mrr_low=0.7`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gristmill.arguments import refuse
from gristmill.evaluation.measures import FIGURES, known_figure
from gristmill.evaluation.retrieval import Evaluation

_KNOWN: Final = tuple(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high"))
_FIELD: Final = "fail-below"


@dataclass(frozen=True, slots=True)
class Floor:
    """What a figure must reach."""

    figure: str
    least: float

    def found(self, evaluation: Evaluation) -> float:
        """The figure as it is."""
        name = self.figure.removesuffix("_low").removesuffix("_high")
        whole = evaluation.figures[name]
        return {"": whole.value, "_low": whole.low, "_high": whole.high}[self.figure.removeprefix(name)]

    def passes_not(self, evaluation: Evaluation) -> bool:
        """Whether the figure is below."""
        return self.found(evaluation) < self.least

    def record(self, evaluation: Evaluation) -> dict[str, Any]:
        """As JSON."""
        return {"figure": self.figure, "least": self.least, "found": round(self.found(evaluation), 6)}

    def told(self, evaluation: Evaluation) -> str:
        """In words."""
        return f"{self.figure} is {self.found(evaluation):.4f}, expected at least {self.least:g}"


def parse_floors(given: Iterable[str]) -> list[Floor]:
    """`figure=value`, each. Raises InvalidInput for a figure that there is not, with the nearest, or for no number."""
    return [_floor(each) for each in given]


def _floor(given: str) -> Floor:
    name, separator, value = given.partition("=")
    if not separator:
        raise refuse(_FIELD, "figure=value, such as mrr=0.8", given)
    figure = known_figure(_FIELD, name, _KNOWN)
    try:
        least = float(value)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise refuse(_FIELD, f"a number from 0 to 1 for {figure}", value)
    return Floor(figure, least)
