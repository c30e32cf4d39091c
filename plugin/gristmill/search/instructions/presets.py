"""Instructions that ship: `preset:faq`, in Chinese `preset:faq:zh`. A text never changes under its version.

The English ones have the form that Qwen3-Embedding and multilingual-E5 were trained with ("Given a …, retrieve …").
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from gristmill.arguments import refuse
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS
from gristmill_schemas.validation import CleanText, Record

_PREFIX: Final = "preset:"

#: Said of every Chinese text.
_CHINESE = (
    "The authors of Qwen3-Embedding advise English instructions whatever the language of query and documents, since it was "
    "trained with them. The Chinese text is for models that were trained with Chinese ones, and wherever your own labelled "
    "questions say that it is better."
)
#: Said of every task in which texts are compared with their like.
_ALIKE = (
    "Both sides are texts of one kind, and models are best where both have the instruction: "
    "`client.embed(texts, kind='query', instruction='preset:{name}')` embeds them so. In a search only the query has it."
)


class Preset(Record):
    """An instruction that ships with Gristmill."""

    name: str
    #: `en` or `zh`.
    language: str
    version: int = Field(default=1, ge=1)
    text: CleanText = Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)
    #: When it is the right one, and when the other language is better.
    note: str

    @property
    def label(self) -> str:
        """How hits report it: `preset:faq@1`, `preset:faq:zh@1`."""
        return f"{self.reference}@{self.version}"

    @property
    def reference(self) -> str:
        """How a search asks for it: `preset:faq`, `preset:faq:zh`."""
        return f"{_PREFIX}{self.name}" if self.language == "en" else f"{_PREFIX}{self.name}:{self.language}"


def _pair(name: str, english: str, chinese: str, note: str) -> tuple[Preset, Preset]:
    return (
        Preset(name=name, language="en", text=english, note=note.format(name=name)),
        Preset(name=name, language="zh", text=chinese, note=_CHINESE),
    )


#: Each in English, then in Chinese.
PRESETS: Final[tuple[Preset, ...]] = (
    *_pair(
        "web",
        "Given a web search query, retrieve relevant passages that answer the query",
        "给定一个网络搜索查询，检索能够回答该查询的相关段落",
        "The sentence that Qwen3-Embedding, E5-Mistral and multilingual-E5 instruct were trained with: what to take where "
        "nothing more is known about the search.",
    ),
    *_pair(
        "faq",
        "Given a customer's question or complaint, find the FAQ entry that solves it",
        "给定客户的提问或投诉，找出能够解决该问题的常见问题条目",
        "For help centres. Better than `preset:web` where customers tell what happened instead of asking.",
    ),
    *_pair(
        "code",
        "Given a question or a description of a task, retrieve code that answers the question or performs the task",
        "给定一个问题或一段任务描述，检索能够回答该问题或完成该任务的代码",
        "English for questions in Chinese, too: identifiers and comments are mostly English.",
    ),
    *_pair(
        "docs",
        "Given a question about a product or an API, retrieve passages of its technical documentation that answer it",
        "给定一个关于产品或接口的问题，从技术文档中检索能够回答该问题的段落",
        "For manuals, references and runbooks. For source text itself there is `preset:code`.",
    ),
    *_pair(
        "intent",
        "Given a customer's message, retrieve texts that express the same intent",
        "给定一条客户消息，检索表达相同意图的文本",
        "For routing, over example messages or descriptions of intents. " + _ALIKE,
    ),
    *_pair(
        "legal",
        "Given a clause, a statement or a situation, retrieve passages that involve the same legal risk",
        "给定一项条款、一段陈述或一种情形，检索涉及相同法律风险的内容",
        "For contracts, opinions and rules. It finds what to read; what follows from it, a lawyer says.",
    ),
    *_pair(
        "duplicates",
        "Given a support ticket, retrieve tickets that report the same problem",
        "给定一张客服工单，检索反映同一问题的工单",
        "For bug reports, too. " + _ALIKE,
    ),
    *_pair(
        "classification",
        "Given a text, retrieve texts that belong to the same category",
        "给定一段文本，检索属于同一类别的文本",
        "Over labelled examples; say in a sentence of your own what the categories are about, if they have one subject. "
        + _ALIKE,
    ),
    *_pair(
        "clustering",
        "Identify the topic or theme of the given text",
        "识别给定文本的主题",
        "For groups of whole texts. " + _ALIKE,
    ),
)


_BY_REFERENCE: Final = {
    reference: preset
    for preset in PRESETS
    for base in {preset.reference, f"{_PREFIX}{preset.name}:{preset.language}"}
    for reference in (base, f"{base}@{preset.version}")
}


def is_preset(instruction: str) -> bool:
    """Whether somebody means a preset: one word that begins with `preset:`."""
    return instruction.startswith(_PREFIX) and len(instruction.split()) == 1


def find_preset(reference: str, field: str = "instruction") -> Preset:
    """The preset that `preset:NAME`, `preset:NAME:LANGUAGE` or either with `@VERSION` means; the error is about `field`.

    Raises:
        InvalidInput: there is none; the message lists what there is.
    """
    if (preset := _BY_REFERENCE.get(reference)) is None:
        known = ", ".join(each.reference for each in PRESETS)
        raise refuse(field, f"a preset that ships ({known})", reference)
    return preset
