"""The article that Gristmill began with, run on your machine: its experiments, our figures beside its own.

    python examples/article.py                                       # the demo's model
    python examples/article.py --model Qwen/Qwen3-Embedding-0.6B     # the article's own: a folder, or the hub's name
    python examples/article.py --base-url http://localhost:8000/v1   # a server that is running already
    python examples/article.py --json

As there, a server is started (`gristmill serve`) and asked by OpenAI's client. Without `input_type` a text is embedded as
it is given, so that instructions written before it by hand are just text; with it, the model's own template is used.
Sentences are ours, in Chinese; the article's figures are what it gives for Qwen3-Embedding-0.6B on its own sentences.

Needs: pip install 'gristmill[serve,demo,eval]' openai
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import openai

from article_texts import (
    BETWEEN,
    CLAUSE,
    CLAUSE_QUESTION,
    FAQ_INSTRUCTION,
    FAQ_QUESTIONS,
    FILLER,
    LENGTHS,
    PAIRS,
    SENSES,
    SENTENCE,
    TECHNICAL_QUESTIONS,
    UNLIKE,
    VIEWS,
)
from gristmill.evaluation import sets
from gristmill.evaluation.labelled import LabelledSet

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    ours: float | int | str
    #: The article's; None where it gives none.
    article: float | str | None = None


@dataclass(frozen=True)
class Claim:
    """What the article says, and whether it holds here."""

    what: str
    holds: bool


@dataclass
class Section:
    """One experiment."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    note: str = ""


class Embedder:
    """Vectors of unit length, by OpenAI's client."""

    #: Texts per request.
    AT_ONCE: Final = 32

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.client = client
        self.model = model

    def as_given(self, texts: Sequence[str]) -> Array:
        """Without any template. float32 (n, dimensions)."""
        return self._embed(texts, {})

    def documents(self, texts: Sequence[str]) -> Array:
        """By the model's template of documents."""
        return self._embed(texts, {"input_type": "document"})

    def queries(self, texts: Sequence[str], instruction: str | None = None) -> Array:
        """By the model's template of queries, with an instruction if there is one."""
        return self._embed(texts, {"input_type": "query"} | ({"instruction": instruction} if instruction else {}))

    def _embed(self, texts: Sequence[str], how: dict[str, str]) -> Array:
        rows: list[list[float]] = []
        for start in range(0, len(texts), self.AT_ONCE):
            part = list(texts[start : start + self.AT_ONCE])
            answer = self.client.embeddings.create(model=self.model, input=part, extra_body=how)
            rows += [each.embedding for each in answer.data]
        found = np.array(rows, dtype=np.float32)
        unit: Array = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


def tickets(embed: Embedder) -> Section:
    """Tickets that say the same in other words."""
    rows = [Row(name, _cosine(embed, a, b), article) for name, a, b, article in (*PAIRS, UNLIKE)]
    closer = all(float(row.ours) > float(rows[-1].ours) for row in rows[:-1])
    return Section("tickets", "成对的工单", rows, [Claim("说同一件事的每一对，都比不相同的那一对更近", closer)])


def senses(embed: Embedder) -> Section:
    """One word in two senses."""
    section = Section("senses", "一个词，两种意思")
    for word, text, same, other in SENSES:
        near, far = _cosine(embed, text, same), _cosine(embed, text, other)
        section.rows += [Row(f"{word}：意思相同，没有这个词", near), Row(f"{word}：有这个词，意思不同", far)]
        section.claims.append(Claim(f"{word}：意思比词更要紧", near > far))
    return section


def faq(embed: Embedder) -> Section:
    """Questions whose right entry shares no words with them, among all entries of the FAQ that ships."""
    shipped = sets.faq()
    ids, vectors, expected = _answers(embed, shipped)
    section = Section("faq", f"客服问答：{len(ids)} 条里找一条", note="问题和正确的条目没有相同的词")
    for question in FAQ_QUESTIONS:
        plain, told = (
            _rank(ids, vectors, embed.queries([question], instruction)[0], expected[question])
            for instruction in (None, FAQ_INSTRUCTION)
        )
        section.rows += [Row(f"{question}：名次", plain), Row(f"{question}：名次，带指令", told)]
        section.claims.append(Claim(f"{question}：正确的条目在前三", plain <= 3))
    return section


def technical(embed: Embedder) -> Section:
    """The page that solves a problem before the page that introduces its subject, among all pages that ship."""
    shipped = sets.technical()
    ids, vectors, expected = _answers(embed, shipped)
    about = {each.id: each.metadata["about"] for each in shipped.documents}
    section = Section("technical", f"技术文档：{len(ids)} 页", note="解决问题的页面应当排在介绍概念的页面之前")
    for question in TECHNICAL_QUESTIONS:
        solves = expected[question]
        introduces = next(
            each.id
            for each in shipped.documents
            if each.metadata["role"] == "introduces" and about[each.id] == about[solves]
        )
        query = embed.queries([question])[0]
        first, second = _rank(ids, vectors, query, solves), _rank(ids, vectors, query, introduces)
        section.rows += [Row(f"{question}：解决它的页面，名次", first), Row(f"{question}：介绍它的页面，名次", second)]
        section.claims.append(Claim(f"{question}：解决在前", first < second))
    return section


def _answers(embed: Embedder, shipped: LabelledSet) -> tuple[list[str], Array, dict[str, str]]:
    """Ids and vectors of the documents that ship, and the one that answers each question."""
    vectors = embed.documents([each.text for each in shipped.documents])
    expected = {each.query: next(iter(each.expected)) for each in shipped.questions}
    return [each.id for each in shipped.documents], vectors, expected


def views(embed: Embedder) -> Section:
    """One sentence under three instructions: written before it by hand, and through the model's template."""
    raw = dict(zip(VIEWS, embed.as_given([f"{view}：{SENTENCE}" for view in VIEWS.values()]), strict=True))
    told = {name: embed.queries([SENTENCE], view)[0] for name, view in VIEWS.items()}
    section = Section("views", "一句话，三种指令", note=SENTENCE)
    for a, b, article in BETWEEN:
        section.rows.append(Row(f"{a}与{b}：前缀手写", float(raw[a] @ raw[b]), article))
        section.rows.append(Row(f"{a}与{b}：经过模板", float(told[a] @ told[b])))
        section.claims.append(Claim(f"{a}与{b}：两种指令给出两个向量", float(raw[a] @ raw[b]) < 0.9999))
    return section


def clusters(embed: Embedder) -> Section:
    """Legal summaries by K-means: how much of a group is of one class."""
    from sklearn.cluster import KMeans

    summaries = list(sets.records("legal"))
    labels = np.array([each["label"] for each in summaries])
    vectors = embed.documents([each["text"] for each in summaries])
    groups = KMeans(len(classes := np.unique(labels)), n_init=10, random_state=7).fit_predict(vectors)
    shares = [_purest(labels[groups == group]) for group in range(len(classes))]
    section = Section("clusters", f"法律摘要聚类：{len(labels)} 条，{len(classes)} 类")
    section.rows = [Row("组内一致，平均", float(np.mean(shares)), "0.92 – 0.98"), Row("最差的一组", min(shares))]
    section.claims = [Claim("每一组都以一个类别为主", min(shares) > 0.5)]
    return section


def _purest(labels: npt.NDArray[Any]) -> float:
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def policies(embed: Embedder) -> Section:
    """A policy of up to 8,192 tokens with the clause in it that answers a question, and the same without it."""
    section = Section("policies", "长制度文本，最多 8192 个 token", note=f"问：{CLAUSE_QUESTION}")
    query = embed.queries([CLAUSE_QUESTION])[0]
    for tokens in LENGTHS:
        body = FILLER * round(tokens / _tokens(embed, FILLER))
        with_it, without = body[: len(body) // 2] + CLAUSE + body[len(body) // 2 :], body + FILLER[: len(CLAUSE)]
        try:
            near, far = embed.documents([with_it, without]) @ query
        except openai.BadRequestError as refusal:
            section.rows.append(Row(f"约 {tokens} 个 token", f"模型的窗口不够：{_reason(refusal)}"))
            continue
        section.rows.append(Row(f"约 {tokens} 个 token：条款所起的作用", float(near - far)))
        section.claims.append(Claim(f"约 {tokens} 个 token：有这一条的文本更近", bool(near > far)))
    return section


def _tokens(embed: Embedder, text: str) -> int:
    return int(embed.client.embeddings.create(model=embed.model, input=text).usage.prompt_tokens)


def _reason(refusal: openai.BadRequestError) -> str:
    told = refusal.body if isinstance(refusal.body, dict) else {}
    return str(told.get("message", refusal))


def client(embed: Embedder) -> Section:
    """OpenAI's client, with nothing changed but `base_url`."""
    served = [each.id for each in embed.client.models.list()]
    ask: Callable[..., Any] = embed.client.embeddings.create
    one = np.array(ask(model=embed.model, input=SENTENCE, encoding_format="float").data[0].embedding)
    again = np.array(ask(model=embed.model, input=[SENTENCE, CLAUSE_QUESTION]).data[0].embedding)
    rows = [Row("模型", ", ".join(served)), Row("维数", len(one)), Row("向量的长度", float(np.linalg.norm(one)))]
    same = bool(np.allclose(one, again, atol=1e-3))
    claims = [Claim("单独算和一起算，得到同一个向量", same), Claim("服务的模型在列表里", embed.model in served)]
    return Section("client", "OpenAI 客户端，只改 base_url", rows, claims)


SECTIONS: Final[dict[str, Callable[[Embedder], Section]]] = {
    each.__name__: each for each in (tickets, senses, faq, technical, views, clusters, policies, client)
}


def _cosine(embed: Embedder, a: str, b: str) -> float:
    first, second = embed.as_given([a, b])
    return float(first @ second)


def _rank(ids: Sequence[str], vectors: Array, query: Array, wanted: str) -> int:
    scores = vectors @ query
    return 1 + int((scores > scores[list(ids).index(wanted)]).sum())


@contextmanager
def server(model: str) -> Iterator[str]:
    """`gristmill serve` on a free port, for as long as the block runs; gives its base URL."""
    command = [sys.executable, "-m", "gristmill", "serve", "--model", model, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told: list[str] = []
    try:
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"ready: .* at (http://\S+?),", line):
                yield f"{found[1]}/v1"
                break
        else:
            raise SystemExit("".join(told[-5:]) or "the server ended without a word")
    finally:
        process.terminate()
        process.communicate()


def show(section: Section, model: str) -> None:
    """One experiment, as a table."""
    print(f"\n{section.title}" + (f"（{section.note}）" if section.note else ""))
    for row in section.rows:
        ours = f"{row.ours:.3f}" if isinstance(row.ours, float) else str(row.ours)
        beside = "" if row.article is None else f"   文章（Qwen3-Embedding-0.6B）：{row.article}"
        print(f"  {row.what}   {model}：{ours}{beside}")
    for claim in section.claims:
        print(f"  {'✓' if claim.holds else '✗'} {claim.what}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="demo", help="folder or hub id, or what the server calls it; default: demo")
    parser.add_argument("--base-url", help="of a server that is running, instead of starting one")
    parser.add_argument("--api-key", default="unused", help="where that server asks for one")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="only this experiment; repeatable")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    asked = parser.parse_args(arguments)
    if asked.base_url:
        run(asked, asked.base_url)
        return
    with server(asked.model) as base_url:
        run(asked, base_url)


def run(asked: argparse.Namespace, base_url: str) -> None:
    """Ask a server, and print what comes of it."""
    with openai.OpenAI(base_url=base_url, api_key=asked.api_key, timeout=600) as asking:
        name = asked.model if asked.base_url else next(iter(asking.models.list())).id
        embed = Embedder(asking, name)
        done: list[Section] = []
        for each in asked.only or SECTIONS:
            done.append(SECTIONS[each](embed))
            if not asked.json:
                show(done[-1], name)
    if asked.json:
        print(json.dumps({"model": name, "sections": [asdict(each) for each in done]}, ensure_ascii=False))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the server, too
    main()
