"""Documents become texts that a model reads: contexts, templates, tokens, chunks; what does not fit is refused or marked.

Everything that decides how many chunks and tokens a document has stands here. The pipeline asks it before it encodes, and an
estimate (`gristmill_worker.pipeline.forecast`) asks it without a model, so the two cannot differ.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gristmill_schemas import ChunkContext, Chunking, CollectionSpec, LongTexts
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_schemas.limits import MAX_CHUNKS
from gristmill_schemas.point import under_context
from gristmill_worker.encoder.base import TextReader, TokenizedText
from gristmill_worker.pipeline.cutting.contexts import Contexts
from gristmill_worker.pipeline.fence import Task
from gristmill_worker.vital_threads import ENDINGS

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Tokens by which a text and its instruction may have more together than apart.
_SEAM = 4
#: Least tokens of a chunk, as in `Chunking.size`.
_LEAST_ROOM = 16


@dataclass(slots=True)
class Cut:
    """One document, tokenized."""

    task: Task
    #: Chunk by chunk, and of each as the collection's `vectors` have it: plain, then under each lens.
    texts: list[TokenizedText]
    #: Characters that each chunk covers.
    spans: list[tuple[int, int]]
    #: What stands above each chunk.
    above: Sequence[str]

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, under all lenses together."""
        return sum([text.n_tokens for text in self.texts])

    @property
    def truncated(self) -> bool:
        """Whether one of its texts was cut at the model's window."""
        return True in [text.truncated for text in self.texts]


class TextTooLong(EncodingFailed):
    """The collection refuses texts that do not fit, and this one does not."""


class Cutter:
    """Cuts documents as their collection wants it. Safe to share between threads."""

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader
        self._contexts = Contexts(reader)

    def cut(self, spec: CollectionSpec, tasks: Sequence[Task]) -> tuple[list[Cut], list[tuple[Task, EncodingFailed]]]:
        """Tokenize documents and cut them; returns those that have their texts, and those that failed, with the reason."""
        policy, views = spec.chunking, _views(spec)
        read, failed = self._under_contexts(policy, tasks)
        tokens = self._tokens([view(under_context(line, task.document.text)) for task, line in read for view in views])
        whole = [tokens[start : start + len(views)] for start in range(0, len(tokens), len(views))]
        cuts: list[Cut] = []
        for (task, line), found in zip(read, whole, strict=True):
            try:
                cuts.append(self._cut(spec, task, _all_of(found), line))
            except EncodingFailed as error:
                failed.append((task, error))
        return cuts, failed

    def _cut(self, spec: CollectionSpec, task: Task, texts: list[TokenizedText], line: str) -> Cut:
        """One document by the collection's policy for long texts, given what it is as a whole: one text per vector."""
        policy, chunks = spec.chunking.long_texts, spec.chunking.long_texts is LongTexts.CHUNK
        limit = min(spec.chunking.size, spec.space.max_tokens)
        truncated = [each.truncated for each in texts]
        beyond = truncated.index(True) if True in truncated else None
        # How a document is cut depends on its plain text, and not on how long the instructions of lenses are.
        fits = beyond is None and (not chunks or texts[0].n_tokens <= limit)
        if not fits and chunks:
            return self._chunk(spec, task, limit)
        if beyond is not None and policy is LongTexts.REFUSE:
            under = f" under lens {spec.vectors[beyond]!r}" if beyond else ""
            raise TextTooLong(
                f"text: expected at most {texts[beyond].n_tokens} tokens{under}, got more; it was refused"
            )
        return Cut(task, texts, [(0, len(task.document.text))], [line])

    def _tokens(self, texts: Sequence[str]) -> list[TokenizedText | EncodingFailed]:
        """Tokens of each text, or why it has none."""
        try:
            return list(_native(lambda: self._reader.tokenize(texts)))
        except EncodingFailed as error:
            if len(texts) == 1:
                return [error]
            log.warning("the tokenizer failed at one of %d texts: trying each alone", len(texts))
        return [each for text in texts for each in self._tokens([text])]

    def _chunk(self, spec: CollectionSpec, task: Task, limit: int) -> Cut:
        text, policy = task.document.text, spec.chunking
        overlap, reserved = min(policy.overlap, limit // 2), self._contexts.reserved(policy) + self._reserved(spec)
        spans = _native(lambda: self._reader.chunk(text, limit, overlap, policy.by, reserved))
        if len(spans) > MAX_CHUNKS:
            raise TextTooLong(f"text: expected at most {MAX_CHUNKS} chunks, got {len(spans)}")
        above = _native(lambda: self._contexts.of(policy, task.document, spans))
        texts = self._tokens_below(spec, text, spans, above)
        # What does not fit under its context, which is rare, goes without: only what stands above it may be left out.
        each = len(spec.vectors)
        beyond = [any(item.truncated for item in texts[at : at + each]) for at in range(0, len(texts), each)]
        if any(line and cut_off for line, cut_off in zip(above, beyond, strict=True)):
            above = ["" if cut_off else line for line, cut_off in zip(above, beyond, strict=True)]
            texts = self._tokens_below(spec, text, spans, above)
        return Cut(task, texts, _closed(spans, len(text)), above)

    def _tokens_below(
        self, spec: CollectionSpec, text: str, spans: Sequence[tuple[int, int]], above: Sequence[str]
    ) -> list[TokenizedText]:
        views = _views(spec)
        parts = [under_context(line, text[a:b]) for line, (a, b) in zip(above, spans, strict=True)]
        return _native(lambda: self._reader.tokenize([view(part) for part in parts for view in views]))

    def _under_contexts(
        self, policy: Chunking, tasks: Sequence[Task]
    ) -> tuple[list[tuple[Task, str]], list[tuple[Task, EncodingFailed]]]:
        """What stands above each document, were it not cut; and those of which it cannot be read."""
        if policy.context is ChunkContext.NONE:
            return [(task, "") for task in tasks], []
        read: list[tuple[Task, str]] = []
        failed: list[tuple[Task, EncodingFailed]] = []
        for task in tasks:
            document = task.document
            try:
                lines = _native(functools.partial(self._contexts.of, policy, document, [(0, len(document.text))]))
                read.append((task, lines[0]))
            except EncodingFailed as error:
                failed.append((task, error))
        return read, failed

    def _reserved(self, spec: CollectionSpec) -> int:
        """Tokens of the window that the longest instruction of a lens takes beyond what a plain document needs."""
        if not spec.lenses:
            return 0
        plain, *instructed = _native(lambda: self._reader.tokenize([view("") for view in _views(spec)]))
        longest = max(range(len(instructed)), key=lambda place: instructed[place].n_tokens)
        reserved = max(instructed[longest].n_tokens - plain.n_tokens + _SEAM, 0)
        if instructed[longest].truncated or spec.space.max_tokens - reserved < _LEAST_ROOM:
            raise TextTooLong(
                f"lenses.{spec.lenses[longest].name}: its document instruction leaves less than {_LEAST_ROOM} of the "
                f"model's {spec.space.max_tokens} tokens for a text: a collection with a shorter one can hold this document"
            )
        return reserved


def _views(spec: CollectionSpec) -> list[Callable[[str], str]]:
    """What makes model input of a text, for each of the collection's vectors."""
    instructions = (None, *(lens.document for lens in spec.lenses))
    return [functools.partial(spec.space.templates.for_document, instruction=each) for each in instructions]


def _all_of(found: Sequence[TokenizedText | EncodingFailed]) -> list[TokenizedText]:
    """Texts of one document, or the error of one of them."""
    texts = []
    for each in found:
        if isinstance(each, EncodingFailed):
            raise each
        texts.append(each)
    return texts


def _native(call: Callable[[], T]) -> T:
    """Call native code of a tokenizer, which panics at some texts; a panic is no `Exception`, and would end the thread."""
    try:
        return call()
    except (*ENDINGS, Unavailable):
        raise
    except BaseException as error:
        raise EncodingFailed(f"the tokenizer failed: {type(error).__name__}: {error}") from error


def _closed(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Spans that cover the whole text: white space that the splitter left out goes to the chunk before it.

    It is stored, not encoded: only so can the text be put together again from its chunks, character by character.
    """
    starts = [0, *(start for start, _ in spans[1:]), length]
    return [(start, max(end, after)) for start, (_, end), after in zip(starts, spans, starts[1:], strict=False)]
