"""Secrets are taken out of every text that leaves: errors and their causes, logs, reprs, what is stored as a reason."""

from gristmill_schemas.redaction.causes import clean_causes, without_secrets
from gristmill_schemas.redaction.records import clean_loggers, clean_process, clean_record
from gristmill_schemas.redaction.texts import HIDDEN, Guarded, redact, remember, remember_url

__all__ = [
    "HIDDEN",
    "Guarded",
    "clean_causes",
    "clean_loggers",
    "clean_process",
    "clean_record",
    "redact",
    "remember",
    "remember_url",
    "without_secrets",
]
