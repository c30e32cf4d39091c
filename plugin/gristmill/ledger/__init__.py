"""The ledger: what was accepted, what became of it, and what is still owed."""

from gristmill.ledger.base import (
    UNBOUNDED,
    Accepted,
    Begun,
    Claim,
    Encoded,
    HighWater,
    Keeping,
    Ledger,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
    new_job_id,
)
from gristmill.ledger.memory import MemoryLedger
from gristmill.ledger.redis import RedisLedger

__all__ = [
    "UNBOUNDED",
    "Accepted",
    "Begun",
    "Claim",
    "Encoded",
    "HighWater",
    "Keeping",
    "Ledger",
    "Load",
    "MemoryLedger",
    "RedisLedger",
    "Ticket",
    "UnreadableParcel",
    "Verdict",
    "new_job_id",
]
