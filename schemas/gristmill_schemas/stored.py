"""What is read back: records that some Gristmill wrote, perhaps a newer one than this.

Within one format, fields may be added: whoever does not know them ignores them, also in the records inside. What would be
misunderstood without its new fields gets a higher format, and whoever does not know that leaves the record alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError, field_validator

from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.validation import Record, explain

log = logging.getLogger(__name__)


class Stored(Record):
    """Base of what is read back: unknown fields do no harm, a newer format is refused as such."""

    model_config = ConfigDict(extra="ignore")

    #: What messages call such a record.
    KIND: ClassVar[str] = "record"
    #: The newest format that this Gristmill reads, and the one it writes.
    FORMAT: ClassVar[int] = 1

    #: Format of this one. First among the fields, so that no other is blamed where this one is newer.
    format: int = 1

    @field_validator("format")
    @classmethod
    def _known(cls, value: int) -> int:
        if value > cls.FORMAT:
            raise NewerFormat(cls.KIND, value, cls.FORMAT)
        return value

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Validate what was stored as a mapping.

        Raises:
            NewerFormat: a newer Gristmill wrote it.
            InvalidInput: it is no such record.
        """
        try:
            return cls.model_validate(value, extra="ignore")
        except ValidationError as error:
            raise InvalidInput(f"{cls.KIND}: {explain(error)}") from error

    @classmethod
    def read_json(cls, body: bytes | str) -> Self:
        """Validate what was stored as JSON. Raises as `read` does."""
        try:
            return cls.model_validate_json(body, extra="ignore")
        except ValidationError as error:
            raise InvalidInput(f"{cls.KIND}: {explain(error)}") from error

    @classmethod
    def read_each(cls, bodies: Iterable[bytes | str]) -> Iterator[Self]:
        """Those of a list that can be read; the others are passed over with one line in the log."""
        passed_over, why = 0, ""
        for body in bodies:
            try:
                yield cls.read_json(body)
            except (NewerFormat, InvalidInput) as error:
                passed_over, why = passed_over + 1, why or str(error)
        if passed_over:
            log.warning("%d passed over; the first: %s", passed_over, why)
