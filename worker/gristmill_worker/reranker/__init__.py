"""Rerankers: a query and documents to scores. `open_reranker` is the one door; importing this loads no torch."""

from gristmill_worker.reranker.base import Reranker, Scores
from gristmill_worker.reranker.open import open_reranker

__all__ = ["Reranker", "Scores", "open_reranker"]
