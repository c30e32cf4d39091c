"""What well-known model families need and their folders often leave unsaid: pooling, templates, Matryoshka bounds.

A folder's own sentence-transformers files win over this table; the caller's overrides win over both. A folder's family is
read from what is in it, so that a copy under another name is the same model.
Sources: the model cards of each family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gristmill_schemas import Distance, Pooling, Templates

#: Task that Qwen3-Embedding's model card uses for retrieval and carries in its `query` prompt.
QWEN3_TASK: Final = "Given a web search query, retrieve relevant passages that answer the query"
#: How much of a model card is looked at; results that follow the names fill hundreds of kilobytes.
_CARD_CHARS: Final = 1 << 20
_CARD_NAMES: Final = (
    re.compile(r"^model-index:\s*\n\s*-\s+name:[ \t]*[\"']?([\w./-]+)[\"']?[ \t]*$", re.MULTILINE),
    re.compile(r"^#{1,2}[ \t]+([\w./-]+)[ \t]*$", re.MULTILINE),
)


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
    #: The token that ends each text in training, and from which the last-token pooling reads.
    end: str | None = None
    #: Whether pooling leaves the prompt's tokens out, without the folder saying so.
    leaves_prompt_out: bool = False
    #: How its vectors are compared: those trained by dot product are of different lengths, which their files seldom say.
    distance: Distance = Distance.COSINE

    @property
    def has_prefixes(self) -> bool:
        """Whether something stands before queries or documents."""
        return self.templates.query != "{text}" or self.templates.document != "{text}"


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


#: An instructor's instruction is its whole prompt: "Represent the … for …: ".
INSTRUCTOR: Final = Templates(query_instructed="{instruction}{text}", document_instructed="{instruction}{text}")
#: EmbeddingGemma's prompts for retrieval; an instruction takes the place of the task.
GEMMA: Final = Templates(
    query="task: search result | query: {text}",
    query_instructed="task: {instruction} | query: {text}",
    document="title: none | text: {text}",
    document_instructed="task: {instruction} | query: {text}",
)


#: First match wins, so the special comes before the general.
FAMILIES: Final[tuple[Family, ...]] = (
    Family("qwen3-embedding", Pooling.LAST, instruct(QWEN3_TASK), True, min_dimensions=32, end="<|endoftext|>"),
    Family("multilingual-e5.*-instruct", Pooling.MEAN, instruct(QWEN3_TASK, " "), True, max_tokens=512),
    Family("e5-mistral|sfr-embedding|linq-embed", Pooling.LAST, instruct(QWEN3_TASK, " "), True, end="</s>"),
    Family("gte-qwen2", Pooling.LAST, instruct(QWEN3_TASK, " "), True, end="<|endoftext|>"),
    Family("instructor-(base|large|xl)", Pooling.MEAN, INSTRUCTOR, True, max_tokens=512, leaves_prompt_out=True),
    Family("embeddinggemma", Pooling.MEAN, GEMMA, min_dimensions=128),
    Family(r"(^|[^a-z0-9])e5([^a-z0-9]|$)", Pooling.MEAN, prefixed("query: ", "passage: "), max_tokens=512),
    Family("bge-m3", Pooling.CLS),
    Family("bge-.*-zh", Pooling.CLS, prefixed("为这个句子生成表示以用于检索相关文章：")),
    Family("bge-.*-en|mxbai-embed", Pooling.CLS, prefixed("Represent this sentence for searching relevant passages: ")),
    Family("arctic-embed.*v2", Pooling.CLS, prefixed("query: ")),
    Family("arctic-embed", Pooling.CLS, prefixed("Represent this sentence for searching relevant passages: ")),
    Family("nomic-embed|modernbert-embed", Pooling.MEAN, prefixed("search_query: ", "search_document: ")),
    Family("gte-modernbert", Pooling.CLS),
    Family("multi-qa-.*-dot|-tas-b", Pooling.CLS, distance=Distance.DOT),
    Family("msmarco-.*-dot|-dot-prod|^contriever|mcontriever", Pooling.MEAN, distance=Distance.DOT),
    Family("gte-|minilm|mpnet|gist-|labse", Pooling.MEAN),
)


def family_of(name: str) -> Family | None:
    """The family that a hub id belongs to, if any; only its last part is looked at."""
    last = name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return next((family for family in FAMILIES if re.search(family.pattern, last, re.IGNORECASE)), None)


def family_in(folder: Path, config: Mapping[str, object]) -> Family | None:
    """The family of a folder by what its files call the model: the model card's title, else what `config.json` says."""
    names = [*card_names(folder / "README.md"), str(config.get("_name_or_path") or "")]
    return next((family for name in names if (family := family_of(name))), None)


def card_names(card: Path) -> list[str]:
    """Names in the front matter's `model-index`, and the first heading, where each is a name and not a sentence."""
    try:
        text = card.read_text(encoding="utf-8", errors="replace")[:_CARD_CHARS]
    except OSError:
        return []
    return [name for pattern in _CARD_NAMES for name in pattern.findall(text)[:1]]
