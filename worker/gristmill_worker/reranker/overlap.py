"""A stand-in reranker without a model: the share of the query's words that a document has. For tests and demonstrations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from gristmill_schemas import EncoderInfo, ModelTask, Pooling
from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.reranker.base import Expired, Scores, check_time, scored
from gristmill_worker.reranker.recipe import ROW

#: A character of Chinese or Japanese, or a run of other letters and digits.
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class OverlapReranker:
    """`overlap:TOKENS`: a window of so many words, query and document together."""

    device = "cpu"
    dtype = "float32"
    sick = None
    busy_since = None

    def __init__(self, max_tokens: int) -> None:
        self.info = EncoderInfo(
            model=f"overlap:{max_tokens}",
            task=ModelTask.RERANKING,
            digest=f"overlap-1-{max_tokens}",
            pooling=Pooling.MEAN,
            dimensions=ROW,
            normalize=False,
            max_tokens=max_tokens,
            instruction_aware=True,
        )
        self._done = 0

    def score(
        self, query: str, documents: Sequence[str], instruction: str | None = None, expired: Expired = lambda: False
    ) -> Scores:
        """See `Reranker.score`; the instruction's words count like the query's."""
        asked = _words(f"{instruction or ''} {query}")
        room = self.info.max_tokens - len(asked)
        if room < 1:
            raise EncodingFailed(
                f"query: expected fewer than {self.info.max_tokens} tokens, instruction included, got {len(asked)}: shorten"
            )
        check_time(expired)
        texts = [_words(each) for each in documents]
        self._done += len(texts)
        shares = [len({*asked} & {*words[:room]}) / max(1, len({*asked})) for words in texts]
        return scored(shares, [len(words) <= room for words in texts])

    def status(self) -> dict[str, Any]:
        """See `Reranker.status`."""
        return {
            "model": self.info.model,
            "model_digest": self.info.digest,
            "task": self.info.task,
            "device": self.device,
            "dtype": self.dtype,
            "busy": 0,
            "texts": self._done,
        }

    def close(self) -> None:
        """Nothing to give back."""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
