"""What earlier releases wrote is read by this one, and what a later one writes is refused by name and left alone.

`tests/golden/` has a folder for each release, written once and never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from golden_records import BYTES, FOLDER, RECORDS, STATUS, written
from gristmill.ledger.capacity import standings
from gristmill_schemas.errors import GristmillError, NewerFormat
from gristmill_schemas.parcel import Parcel, pack, unpack
from gristmill_schemas.query import QueryAnswer, unpack_answer
from gristmill_schemas.stored import Stored

RELEASES = sorted(path for path in FOLDER.iterdir() if path.is_dir())
each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
each_kind = pytest.mark.parametrize("name", sorted(RECORDS))


def golden(release: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((release / f"{name}.json").read_text(encoding="utf-8"))
    return value


def kinds_of_records(base: type[Stored] = Stored) -> Iterator[type[Stored]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of_records(kind)


def lacks(written_then: Any, written_now: Any, path: str = "") -> Iterator[str]:
    """Fields and values that were written then, and are not written now: who reads the old way would miss them."""
    if isinstance(written_then, dict) and isinstance(written_now, dict):
        for key, value in written_then.items():
            yield from lacks(value, written_now.get(key, "nothing"), f"{path}.{key}")
    elif written_then != written_now:
        yield f"{path.lstrip('.')}: {written_then!r} then, {written_now!r} now"


def test_every_kind_of_record_has_its_golden_one() -> None:
    ours = {kind for kind in kinds_of_records() if kind.__module__.startswith("gristmill")}
    assert ours == {type(record) for record in RECORDS.values()}


@each_release
@each_kind
def test_what_a_release_wrote_is_read_as_it_was_meant(release: Path, name: str) -> None:
    read = type(RECORDS[name]).read(golden(release, name))
    assert list(lacks(golden(release, name), written(read))) == []


@each_release
@each_kind
def test_what_is_written_now_has_all_that_a_release_of_the_same_format_reads(release: Path, name: str) -> None:
    then, now = golden(release, name), written(RECORDS[name])
    if then["format"] == now["format"]:
        assert list(lacks(then, now)) == [], "raise FORMAT: an older reader would miss it"


@each_release
def test_bytes_of_a_release_are_read(release: Path) -> None:
    bodies = {name: bytes.fromhex(body) for name, body in golden(release, "bytes").items()}
    assert unpack(bodies["parcel"]) == Parcel.read(golden(release, "parcel"))
    assert unpack_answer(bodies["answer"]) == QueryAnswer(bytes(range(16)), 2, 2)
    with pytest.raises(GristmillError, match="拒绝"):
        unpack_answer(bodies["failure"])
    assert (bodies["answer"], bodies["failure"]) == (BYTES["answer"], BYTES["failure"])


@each_release
def test_what_a_worker_of_a_release_says_of_itself_is_understood(release: Path) -> None:
    status = golden(release, "status")
    assert list(standings(status)) == list(standings(STATUS))
    assert list(standings({**status, "of_tomorrow": 1, "engines": [*status["engines"], {"another": "thing"}]})) == list(
        standings(status)
    )


@each_kind
def test_a_record_of_a_later_format_is_refused_with_both_formats_this_version_and_the_next_step(name: str) -> None:
    kind = type(RECORDS[name])
    later = {**written(RECORDS[name]), "format": kind.FORMAT + 1, "of_tomorrow": True}
    said = (
        f"{kind.KIND}: format {kind.FORMAT + 1} is newer than {kind.FORMAT}, "
        f"the newest that gristmill {version('gristmill')} reads: upgrade this side"
    )
    with pytest.raises(NewerFormat, match=re.escape(said)):
        kind.read(later)


def test_a_parcel_of_a_later_format_is_told_from_a_broken_one() -> None:
    parcel = RECORDS["parcel"].model_copy(update={"format": 2})
    assert isinstance(parcel, Parcel)
    with pytest.raises(NewerFormat, match="parcel: format 2"):
        unpack(pack(parcel))
