"""How urgent a job is."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    """How urgent a job is beside others that wait for the same model."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
