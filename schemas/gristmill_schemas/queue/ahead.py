"""What is served before a job."""

from __future__ import annotations

from gristmill_schemas.validation import Record


class Ahead(Record):
    """What workers do before a job is done, as things stand: whoever comes later may change it.

    Tokens are those that were estimated when the documents came in. Seconds are by what the model's workers have measured,
    all together; None where nobody ever has, or the job is paused.
    """

    #: Its own unfinished ones.
    tokens: int = 0
    #: Of other jobs: those that workers have in hand, and what they are given before the first of this one that waits.
    before_start: int = 0
    #: Likewise, before its last.
    before_end: int = 0
    #: Which part of what workers take up for the model is this job's just now: 0 where all of it is in hand, or paused.
    share: float = 0.0
    starts_in_s: float | None = None
    ends_in_s: float | None = None
