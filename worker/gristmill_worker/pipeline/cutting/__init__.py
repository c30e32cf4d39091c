"""From documents to what a model reads of them: which chunks, what stands above each, how many tokens."""

from gristmill_worker.pipeline.cutting.cutter import Cut, Cutter, TextTooLong

__all__ = ["Cut", "Cutter", "TextTooLong"]
