"""The ledger: what was accepted, what became of it, and what is still owed."""

from gristmill.ledger.base import (
    ALONE,
    UNBOUNDED,
    Accepted,
    Begun,
    Claim,
    Encoded,
    EnoughHeld,
    HighWater,
    Holding,
    Keeping,
    Ledger,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
    Waiting,
    new_job_id,
)
from gristmill.ledger.limits.base import UNLIMITED, AboveLimit, Limits
from gristmill.ledger.memory import MemoryLedger
from gristmill.ledger.redis import RedisLedger

__all__ = [
    "ALONE",
    "UNBOUNDED",
    "UNLIMITED",
    "AboveLimit",
    "Accepted",
    "Begun",
    "Claim",
    "Encoded",
    "EnoughHeld",
    "HighWater",
    "Holding",
    "Keeping",
    "Ledger",
    "Limits",
    "Load",
    "MemoryLedger",
    "RedisLedger",
    "Ticket",
    "UnreadableParcel",
    "Verdict",
    "Waiting",
    "new_job_id",
]
