"""What well-known model families need and their folders often leave unsaid: pooling, templates, Matryoshka bounds.

A folder's own sentence-transformers files win over this table; the caller's overrides win over both.
Sources: the model cards of each family.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from gristmill_schemas import Pooling, Templates

#: Task that Qwen3-Embedding's model card uses for retrieval and carries in its `query` prompt.
QWEN3_TASK: Final = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, slots=True)
class Family:
    """Defaults of one family."""

    #: Searched, ignoring case, in the hub id or the folder's name.
    pattern: str
    pooling: Pooling
    templates: Templates = field(default_factory=Templates)
    instruction_aware: bool = False
    min_dimensions: int | None = None
    max_tokens: int | None = None


def instruct(task: str, gap: str = "") -> Templates:
    """Templates of models trained on `Instruct: task`, `Query:text` pairs; `gap` is what follows `Query:`."""
    return Templates(
        query=f"Instruct: {task}\nQuery:{gap}{{text}}",
        query_instructed=f"Instruct: {{instruction}}\nQuery:{gap}{{text}}",
        document_instructed=f"Instruct: {{instruction}}\nQuery:{gap}{{text}}",
    )


def prefixed(query: str, document: str = "") -> Templates:
    """Templates of models trained on fixed prefixes. An instruction goes between the prefix and the text.

    The prefix stays first, where training had it; models of this kind do not know what an instruction is.
    """
    return Templates(
        query=f"{query}{{text}}",
        query_instructed=f"{query}{{instruction}}\n{{text}}",
        document=f"{document}{{text}}",
        document_instructed=f"{document}{{instruction}}\n{{text}}",
    )


#: First match wins, so the special comes before the general.
FAMILIES: Final[tuple[Family, ...]] = (
    Family("qwen3-embedding", Pooling.LAST, instruct(QWEN3_TASK), True, min_dimensions=32),
    Family("multilingual-e5.*-instruct", Pooling.MEAN, instruct(QWEN3_TASK, " "), True, max_tokens=512),
    Family("e5-mistral|sfr-embedding|linq-embed", Pooling.LAST, instruct(QWEN3_TASK, " "), True),
    Family(r"(^|[^a-z0-9])e5([^a-z0-9]|$)", Pooling.MEAN, prefixed("query: ", "passage: "), max_tokens=512),
    Family("bge-m3", Pooling.CLS),
    Family("bge-.*-zh", Pooling.CLS, prefixed("为这个句子生成表示以用于检索相关文章：")),
    Family("bge-.*-en|mxbai-embed", Pooling.CLS, prefixed("Represent this sentence for searching relevant passages: ")),
    Family("arctic-embed.*v2", Pooling.CLS, prefixed("query: ")),
    Family("arctic-embed", Pooling.CLS, prefixed("Represent this sentence for searching relevant passages: ")),
    Family("nomic-embed|modernbert-embed", Pooling.MEAN, prefixed("search_query: ", "search_document: ")),
    Family("gte-modernbert", Pooling.CLS),
    Family("gte-|minilm|mpnet|gist-|labse", Pooling.MEAN),
)


def family_of(name: str) -> Family | None:
    """The family that a hub id or folder name belongs to, if any; only its last path part is looked at."""
    last = name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return next((family for family in FAMILIES if re.search(family.pattern, last, re.IGNORECASE)), None)
