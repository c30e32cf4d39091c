"""Boosts: what else than the query counts for a hit's rank. A field's number, a filter that it matches, how recent it is.

score = score + weight * value                 how="add"
        score + weight * value * |score|       how="multiply": by so many parts of itself, upwards also from below zero

Qdrant does the sum for the best candidates of the search. A distance, by which less is better, counts as 1 / (1 + distance).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, ValidationError, model_validator
from qdrant_client import models

from gristmill.arguments import refuse
from gristmill.search.filters import compile_filter
from gristmill.store.indexes import field_path
from gristmill_schemas import CollectionSpec, Distance
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import with_zone
from gristmill_schemas.validation import Record, explain

#: A date that every half-life is long past, for documents without one.
_LONG_AGO = "0001-01-01T00:00:00Z"
_REFUSED = re.compile(r"Expected (?P<kind>datetime|number)(?: value)? for (?P<path>.+?) in the payload")
_MOST = 32
_EXPECTED = "a Boost, a Recency, a mapping with the fields of one, or a list of these"


def _not_zero(value: float) -> float:
    if not value:
        raise ValueError("expected another number than 0, which would say nothing")
    return value


Weight = Annotated[float, Field(ge=-1e6, le=1e6), AfterValidator(_not_zero)]
#: Joined with the score as a sum, or as parts of it.
Joined = Literal["add", "multiply"]


class Boost(Record):
    """A field's number, or that a filter matches, added to the score."""

    #: A field of the metadata that holds numbers; documents without it count 0.
    field: str | None = None
    #: A filter as in `search`: 1 where it matches, else 0.
    where: Any = None
    #: What it counts; below zero, against.
    weight: Weight = 1.0
    #: `ln(1 + |number|)`, for counts of views or sales.
    log: bool = False
    how: Joined = "add"

    @model_validator(mode="after")
    def _of_one_thing(self) -> Boost:
        if (self.field is None) == (self.where is None):
            raise ValueError("expected field= or where=, one of the two")
        if self.log and self.field is None:
            raise ValueError("log: expected False with where=, which is 1 or 0")
        return self


class Decay(StrEnum):
    """How what is past fades."""

    EXP = "exp"  #: halved with each half-life
    GAUSS = "gauss"  #: slowly at first, then fast
    LINEAR = "linear"  #: to nothing at two half-lives


class Recency(Record):
    """How near a date is to now: 1 for now, a half one half-life away, in the future as well as in the past."""

    #: A field of the metadata that holds dates; documents without it count 0.
    field: str
    #: A timedelta, seconds, or ISO 8601 such as `P30D`.
    half_life: timedelta = Field(gt=timedelta(0))
    weight: Weight = 1.0
    #: What counts as now; None is the time of the search.
    now: datetime | None = None
    decay: Decay = Decay.EXP
    how: Joined = "add"


#: What `boost=` takes.
Boosting = Boost | Recency | Mapping[str, Any] | Iterable[Boost | Recency | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Boosts:
    """The boosts of one call, checked, in Qdrant's words."""

    terms: tuple[models.Expression, ...]
    #: What a field counts where it is missing.
    defaults: Mapping[str, Any]
    #: The argument that brought it, by the field's path.
    named: Mapping[str, str]

    def query(self, spec: CollectionSpec, kind: str) -> models.FormulaQuery:
        """The sum, over a search whose scores are of this kind."""
        score: models.Expression = "$score"
        if kind == Distance.EUCLID:
            score = models.DivExpression(
                div=models.DivParams(left=1.0, right=models.SumExpression(sum=[1.0, "$score"]), by_zero_default=None)
            )
        terms = [_with_score(term, score) for term in self.terms]
        return models.FormulaQuery(formula=models.SumExpression(sum=[score, *terms]), defaults=dict(self.defaults))

    def refusal(self, error: Exception) -> InvalidInput | None:
        """What to say where Qdrant finds something else in a field than what it shall count."""
        dated = [path for path, default in self.defaults.items() if default == _LONG_AGO]
        if isinstance(error, AttributeError) and dated:  # local mode's, at a date that is no text
            return self._told(dated[0], dates=True)
        found = _REFUSED.search(str(error))
        return self._told(found["path"], dates=found["kind"] == "datetime") if found else None

    def _told(self, path: str, *, dates: bool) -> InvalidInput:
        expected = "a field that holds dates (ISO 8601)" if dates else "a field that holds numbers"
        way_out = "" if dates else f"; for values of another kind there is Boost(where={{{path!r}: …}})"
        return InvalidInput(
            f"{self.named.get(path, 'boost')}: expected {expected}, got {path!r}, in which a document that was found has "
            f"something else{way_out}",
            field=self.named.get(path, "boost"),
        )


#: Stands for the score in a term, until it is known how that is made.
_SCORE = "$score"


def _with_score(term: models.Expression, score: models.Expression) -> models.Expression:
    if isinstance(term, models.MultExpression) and isinstance(term.mult[-1], models.AbsExpression):
        return models.MultExpression(mult=[*term.mult[:-1], models.AbsExpression(abs=score)])
    return term


def asked_boosts(boost: object) -> Boosts | None:
    """What was given, checked.

    Raises:
        InvalidInput: naming the boost and its field, what came and what was expected.
    """
    if boost is None:
        return None
    given = [boost] if isinstance(boost, Boost | Recency | Mapping) else boost
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise refuse("boost", _EXPECTED, boost)
    several = list(given)
    if len(several) > _MOST:
        raise refuse("boost", f"at most {_MOST} of them", len(several))
    places = ["boost" if given is not boost else f"boost[{position}]" for position in range(len(several))]
    return _joined(places, [_record(place, each) for place, each in zip(places, several, strict=True)])


def _record(place: str, given: Any) -> Boost | Recency:
    if isinstance(given, Boost | Recency):
        return given
    if not isinstance(given, Mapping):
        raise refuse(place, _EXPECTED, given)
    kind: type[Boost | Recency] = Recency if "half_life" in given else Boost
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise InvalidInput(f"{place}: {explain(error)}", field=place) from error


def _joined(places: Sequence[str], boosts: Sequence[Boost | Recency]) -> Boosts | None:
    terms: list[models.Expression] = []
    defaults: dict[str, Any] = {}
    named: dict[str, str] = {}
    for place, boost in zip(places, boosts, strict=True):
        value, missing = _recency(place, boost) if isinstance(boost, Recency) else _value(place, boost)
        for path, default in missing.items():
            if defaults.setdefault(path, default) != default:
                raise refuse(f"{place}.field", f"{path!r} as numbers or as dates, and not both", path)
            named.setdefault(path, f"{place}.field")
        parts = [models.AbsExpression(abs=_SCORE)] if boost.how == "multiply" else []
        terms.append(models.MultExpression(mult=[boost.weight, value, *parts]))
    return Boosts(tuple(terms), defaults, named) if terms else None


def _value(place: str, boost: Boost) -> tuple[models.Expression, dict[str, Any]]:
    if boost.field is None:
        matched = compile_filter(boost.where)
        if matched is None:
            raise refuse(f"{place}.where", "a filter with at least one condition", boost.where)
        return cast("models.Expression", matched), {}
    path = field_path(f"{place}.field", boost.field)
    if not boost.log:
        return path, {path: 0.0}
    size = models.SumExpression(sum=[1.0, models.AbsExpression(abs=path)])
    return models.LnExpression(ln=size), {path: 0.0}


def _recency(place: str, recency: Recency) -> tuple[models.Expression, dict[str, Any]]:
    path = field_path(f"{place}.field", recency.field)
    now = with_zone(recency.now).astimezone(UTC) if recency.now else datetime.now(UTC)
    fading = models.DecayParamsExpression(
        x=models.DatetimeKeyExpression(datetime_key=path),
        target=models.DatetimeExpression(datetime=now.isoformat().replace("+00:00", "Z")),
        scale=recency.half_life.total_seconds(),
        midpoint=0.5,
    )
    shapes: dict[Decay, models.Expression] = {
        Decay.EXP: models.ExpDecayExpression(exp_decay=fading),
        Decay.GAUSS: models.GaussDecayExpression(gauss_decay=fading),
        Decay.LINEAR: models.LinDecayExpression(lin_decay=fading),
    }
    return shapes[recency.decay], {path: _LONG_AGO}
