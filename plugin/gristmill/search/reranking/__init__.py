"""Reranking: a cross-encoder on a worker reads query and document together, and scores how well one answers the other."""

from gristmill.search.reranking.asked import Rerank, asked_rerank
from gristmill.search.reranking.pair_scores import PairScorer, WorkerScores
from gristmill.search.reranking.reranking import RELEVANCE, Reranking

__all__ = ["RELEVANCE", "PairScorer", "Rerank", "Reranking", "WorkerScores", "asked_rerank"]
