"""From a folder's prompts to templates, as sentence-transformers' encode_query and encode_document choose among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gristmill_schemas import Templates
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.families import prefixed

#: Prompt names, best first: sentence-transformers' own candidates, then those that model cards name for retrieval.
_QUERY_PROMPTS: Final = ("query", "search_query", "retrieval.query", "s2p_query", "web_search_query")
_DOCUMENT_PROMPTS: Final = ("document", "passage", "corpus", "search_document", "retrieval.passage")
#: `Instruct: <task>\nQuery:` in any of its spellings: the prompt tells that the model follows instructions.
_INSTRUCT_PROMPT: Final = re.compile(r"^(?P<head>Instruct(?:ion)?: ?)(?P<task>.+?)(?P<tail>\n ?Query: ?)$", re.DOTALL)
#: EmbeddingGemma's prompts, which name a task as others carry an instruction.
_TASK_PROMPT: Final = re.compile(r"^(?P<head>task: )(?P<task>[^|]+)(?P<tail> \| query: )$")
_PLACEHOLDER: Final = re.compile(r"\{(text|instruction)\}")
#: Stands between prompt and text where a model's pooling leaves the prompt out, and reaches no model. Templates travel to
#: those that fill them, so the border must travel with them; no text has this character (unit separator) at its start.
PROMPT_END: Final = "\x1f"


def read_templates(config: Mapping[str, Any]) -> tuple[Templates, bool] | None:
    """Templates from the prompts of `config_sentence_transformers.json`, and whether the model follows instructions.

    None where there are no prompts.

    Raises:
        ModelUnavailable: a prompt holds what templates fill in.
    """
    prompts = {str(k): str(v or "") for k, v in (config.get("prompts") or {}).items()}
    _check_plain(prompts)
    # `default_prompt_name` is for neither: encode_query and encode_document have an empty prompt where theirs is absent.
    query = next((prompts[name] for name in _QUERY_PROMPTS if name in prompts), "")
    document = next((prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts), "")
    if not query and not document:
        return None
    plain = prefixed(query, document)
    aware = _INSTRUCT_PROMPT.match(query)
    if not (found := aware or _TASK_PROMPT.match(query)):
        return plain, False
    instructed = f"{found['head']}{{instruction}}{found['tail']}{{text}}"
    update = {"query_instructed": instructed, "document_instructed": instructed}
    return plain.model_copy(update=update), aware is not None


def _check_plain(prompts: Mapping[str, str]) -> None:
    if filled := [name for name, prompt in prompts.items() if _PLACEHOLDER.search(prompt)]:
        raise ModelUnavailable(
            f"config_sentence_transformers.json: prompts: {', '.join(filled)}: a prompt stands before its text as it is, "
            "and {text} or {instruction} in one would be filled in here; take them out, or take another model"
        )


def with_border(templates: Templates) -> Templates:
    """The same templates with the end of their prompt marked."""
    marked = {key: value.replace("{text}", PROMPT_END + "{text}", 1) for key, value in templates.model_dump().items()}
    return Templates(**marked)
