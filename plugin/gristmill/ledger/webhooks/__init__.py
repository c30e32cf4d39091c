"""Webhooks in the ledger: what is to be told of jobs that are done. Queued in the change that makes a job so."""
