"""Wrong inputs as people give them: settings, environments, arguments, files, filters; and the sentence that each gets.

`docs/reference/wrong-inputs.md` is made from these, by `make docs`; `unit/test_wrong_inputs.py` holds every sentence against
what it has to name: what came, what was expected, and what to do next.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import gristmill.settings
from gristmill import Client, ClientSettings, Document, GristmillError, Instruction
from gristmill.cli.root import main


@dataclass(frozen=True)
class Wrong:
    """One wrong input."""

    kind: str
    #: How it is given: a command line, or Python with `client`.
    given: str
    #: What the sentence must name.
    came: str
    expected: str
    next: str
    #: Variables of the environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Files of the working directory.
    files: Mapping[str, bytes | str] = field(default_factory=dict)


def sentence(wrong: Wrong, client: Client) -> str:
    """What is said about it, on one line; paths as a reader would have them."""
    with _place(wrong) as folder:
        told = _of_command(wrong) if wrong.given.startswith("gristmill ") else _of_python(wrong, client)
    return " ".join(told.replace(str(folder), "/home/ada").split())


@contextlib.contextmanager
def _place(wrong: Wrong) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for path, content in wrong.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
        gristmill.settings._warn_once.cache_clear()
        ours = {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}
        variables = {"GRISTMILL_EMBEDDED_PATH": ":memory:", "GRISTMILL_MODEL": "hash:16"} | dict(wrong.environment)
        bare: Any = mock.patch.object(logging.root, "handlers", [])  # as in a process of its own
        with mock.patch.dict(os.environ, ours | variables, clear=True), bare, contextlib.chdir(folder):
            yield folder


def _of_command(wrong: Wrong) -> str:
    out, err, taken = io.StringIO(), io.StringIO(), True
    arguments = shlex.split(wrong.given)
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            taken = ended.code in (0, None)
    assert not taken, f"{wrong.given}: was taken: {out.getvalue()}"
    # The collection is new each time: without servers nothing is kept.
    return re.sub("creating collection .*?…", "", err.getvalue(), flags=re.DOTALL)


def _of_python(wrong: Wrong, client: Client) -> str:
    names = {"client": client, "Client": Client, "ClientSettings": ClientSettings, "Document": Document}
    names |= {"object": object}
    try:
        answer = eval(wrong.given, names)
    except (GristmillError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    rejections: tuple[Any, ...] = getattr(answer, "rejections", ())
    assert rejections, f"{wrong.given}: was taken: {answer!r}"
    return str(rejections[0])


S, E, A, F, W = "settings", "environments", "arguments", "files", "filters"
D, T = "searches in depth", "tenants"

WRONG = [
    # settings, in Python and as variables
    Wrong(S, "Client(redis_url='localhost:6379')", "localhost:6379", "redis://", "redis://"),
    Wrong(S, "Client(qdrant_url='localhost:6333')", "localhost:6333", "http", "http"),
    Wrong(S, "Client(qdrant_grpc_port=99999)", "99999", "less than or equal to 65535", "GRISTMILL_QDRANT_GRPC_PORT"),
    Wrong(S, "Client(url='http://localhost:6333')", "url", "unexpected", "`qdrant_url`"),
    Wrong(S, "Client(api_key='k')", "api_key", "unexpected", "`qdrant_api_key`"),
    Wrong(S, "Client(prefer_grpc=True)", "prefer_grpc", "unexpected", "`qdrant_prefer_grpc`"),
    Wrong(S, "Client(device='cuda')", "device", "unexpected", "`gristmill worker`"),
    Wrong(S, "Client('redis://localhost:6379')", "str", "ClientSettings", "redis_url=…"),
    Wrong(S, "Client(key_prefix='my app')", "my app", "matches", "GRISTMILL_KEY_PREFIX"),
    Wrong(S, "Client.embedded(model='hash:16', threads=0)", "got 0", "greater", "GRISTMILL_THREADS"),
    Wrong(
        S, "gristmill jobs list", "soon", "number", "GRISTMILL_REDIS_TIMEOUT_S", {"GRISTMILL_REDIS_TIMEOUT_S": "soon"}
    ),
    Wrong(S, "gristmill jobs list", "-5", "greater", "GRISTMILL_JOB_TTL_S", {"GRISTMILL_JOB_TTL_S": "-5"}),
    Wrong(S, "gristmill jobs list", "perhaps", "boolean", "GRISTMILL_ROSTER", {"GRISTMILL_ROSTER": "perhaps"}),
    Wrong(
        E,
        "gristmill jobs show abc",
        "GRISTMILL_QDRANT_ULR",
        "no setting",
        "GRISTMILL_QDRANT_URL",
        {"GRISTMILL_QDRANT_ULR": "x"},
    ),
    # environments
    Wrong(
        E, "gristmill jobs list", "UTF-16", "UTF-8", "save it as", files={".env": "GRISTMILL_MODEL=x".encode("utf-16")}
    ),
    Wrong(E, "gristmill jobs list", "a folder", "a text file", ".env", files={".env/x": ""}),
    Wrong(
        E,
        "Client(redis_url='redis://127.0.0.1:1/0').jobs.list()",
        "127.0.0.1:1",
        "Redis",
        "GRISTMILL_REDIS_URL",
        {"GRISTMILL_EMBEDDED_PATH": ""},
    ),
    Wrong(
        E,
        "Client(qdrant_url='http://127.0.0.1:1', qdrant_grpc_port=1).collections.list()",
        "127.0.0.1:1",
        "Qdrant",
        "GRISTMILL_QDRANT_URL",
        {"GRISTMILL_EMBEDDED_PATH": ""},
    ),
    Wrong(E, "gristmill collections list", "tpu", "cuda", "GRISTMILL_DEVICE", {"GRISTMILL_DEVICE": "tpu"}),
    # arguments, on the command line
    Wrong(A, "gristmill ingst docs.jsonl -c docs", "ingst", "No such command", "'ingest'"),
    Wrong(A, "gristmill jobs lst", "lst", "No such command", "'list'"),
    Wrong(A, "gristmill ingest docs.jsonl", "--collection", "Missing", "--help"),
    Wrong(A, "gristmill ingest docs.jsonl --colection docs", "--colection", "no such option", "`--collection`"),
    Wrong(
        A, "gristmill ingest docs.jsonl -c docs --text-column body", "--text-column", "no such option", "`--text-field`"
    ),
    Wrong(A, "gristmill search docs question --top-k 5", "--top-k", "no such option", "`--limit`"),
    Wrong(A, "gristmill search docs question --url http://host", "--url", "no such option", "GRISTMILL_QDRANT_URL"),
    Wrong(A, "gristmill search docs question -n many", "'many'", "expected an integer", "--help"),
    Wrong(A, "gristmill search docs question -n 0", "'0'", "expected greater than or equal to 1", "--help"),
    Wrong(A, "gristmill search nowhere question", "nowhere", "collection", "collections list"),
    Wrong(A, "gristmill search docs", "query", "Missing", "--help"),
    Wrong(A, "gristmill jobs show abc", "abc", "unknown", "jobs list"),
    Wrong(A, "gristmill dead show abc", "abc", "letter", "dead list"),
    Wrong(A, "gristmill dead replay", "neither", "letter ids", "dead summary"),
    Wrong(A, "gristmill collections create docs --instruction find", "find", "name=sentence", "name=sentence"),
    Wrong(A, "gristmill collections create docs --dimensions 99", "99", "1 to 16", "dimensions"),
    Wrong(
        A, "gristmill collections create docs --chunk-size 100 --chunk-overlap 100", "100", "less than size", "overlap"
    ),
    Wrong(A, "gristmill receipt docs", "id", "Missing", "--help"),
    # arguments, in Python
    Wrong(A, "client.enqueue('docs', 'a text')", "a text", "a Document", "a mapping with its fields"),
    Wrong(
        A, "client.enqueue('docs', Document(id='1', page_content='x'))", "page_content", "expected a value", "`text`"
    ),
    Wrong(A, "client.enqueue('docs', {'id': '1', 'text': ' '})", "blank", "text to embed", "text"),
    Wrong(A, "client.enqueue('docs', {'id': '1', 'text': 'x', 'metadata': [1]})", "list", "JSON object", "metadata"),
    Wrong(
        A,
        "client.enqueue('docs', {'id': '1', 'text': 'x', 'metadata': {'_gristmill': 1}})",
        "_gristmill",
        "reserved",
        "rename",
    ),
    Wrong(A, "client.enqueue('docs', {'id': '1', 'text': 'x', 'version': 1.5})", "1.5", "integer", "version"),
    Wrong(A, "client.enqueue('docs', [], timeout='x')", "timeout", "unexpected", "`timeout_s`"),
    Wrong(A, "client.upsert('docs', [])", "upsert", "no attribute", "`enqueue`"),
    Wrong(A, "client.search('docs', '')", "empty", "text", "query"),
    Wrong(A, "client.search('docs', 'q', top_k=3)", "top_k", "unexpected", "`limit`"),
    Wrong(A, "client.search('docs', 'q', limit='many')", "many", "an integer", "limit"),
    Wrong(A, "client.search('docs', 'q', limit=-1)", "-1", "from 1", "limit"),
    Wrong(A, "client.search('docs', 'q', instruction='faq')", "faq", "registered", "sentence"),
    Wrong(A, "client.search('docs', 'q', instruction='faq@7')", "faq@7", "name@version", "sentence"),
    Wrong(A, "client.search('docs', 'q', instruction='preset:help')", "preset:help", "preset:faq", "a preset"),
    Wrong(A, "client.instructions.register('docs', 'My FAQ', 'Find')", "My FAQ", "a-z", "such as faq"),
    Wrong(A, "client.instructions.register('docs', 'faq', ' ')", "blank", "a sentence", "text"),
    Wrong(A, "client.instructions.show('docs', 'faq')", "faq", "a registered name", "has none"),
    Wrong(A, "client.search('docs', b'bytes')", "bytes", "one text", "search_many"),
    Wrong(A, "client.delete('docs', {'id': 1})", "{'id': 1}", "an id", "iterable of ids"),
    Wrong(A, "client.delete_where('docs')", "got none", "at least one condition", "delete the collection"),
    Wrong(A, "client.create_collection('docs', distance='manhattan')", "manhattan", "cosine", "distance"),
    Wrong(A, "client.embed(['x'], kind='passage')", "passage", "document", "kind"),
    # searches in depth
    Wrong(D, "client.search('docs', 'q', lens='legal')", "'legal'", "has no lenses", "create_collection"),
    Wrong(D, "client.search('views', 'q', lens='leagl')", "'leagl'", "'legal'", "without a lens"),
    Wrong(D, "client.create_collection('docs', lenses={'legal': 'x y'})", "legal", "lenses", "cannot be changed"),
    Wrong(D, "client.create_collection('new', lenses={'legal': 'faq'})", "'faq'", "a sentence", "preset:legal"),
    Wrong(D, "client.create_collection('new', lenses={'bm25': 'x y'})", "bm25", "expected", "another name"),
    Wrong(D, "client.search('views', 'q', instruction='duty@7')", "'duty@7'", "duty@1", "a sentence"),
    Wrong(D, "client.instructions.retire('views', 'duty@7')", "duty@7", "a registered", "duty@1"),
    Wrong(D, "client.search('wordless', 'q', mode='hybrid')", "'hybrid'", "'dense'", "keyword=True"),
    Wrong(D, "client.search('docs', 'q', mode='sparse')", "'sparse'", "dense, keyword, hybrid", "mode"),
    Wrong(D, "client.search('docs', 'q', hybrid=True)", "hybrid", "unexpected", "`mode`"),
    Wrong(D, "client.search('docs', 'q', mode='hybrid', score_threshold=0.5)", "0.5", "None with", "ranks"),
    Wrong(D, "client.search('docs', 'q', rerank=True)", "rerank", "serves", "gristmill worker --reranker"),
    Wrong(D, "client.search('docs', 'q', rerank='other')", "'other'", "has announced", "gristmill worker --reranker"),
    Wrong(D, "client.search('docs', 'q', boost={'field': 'year', 'wieght': 2})", "got 2", "no field", "`weight`"),
    Wrong(
        D, "client.rerank('q', ['a'], instruction='faq')", "'faq'", "a sentence", "a single word is taken for a name"
    ),
    Wrong(D, "client.search('docs', 'q', rerank_top=9)", "got 9", "None without", "rerank=True"),
    Wrong(D, "client.search('docs', 'q', rerank=True, rerank_top=3)", "got 3", "limit + offset", "rerank_top"),
    Wrong(D, "client.search('docs', 'q', diversity=0.5, boost={'field': 'year'})", "got 0.5", "None with", "boost="),
    Wrong(D, "client.search('docs', 'q', diversity=7)", "got 7", "from 0", "diversity"),
    Wrong(D, "client.search('docs', 'q', boost={'field': 'title'})", "'title'", "holds numbers", "Boost(where="),
    Wrong(
        D, "client.search('docs', 'q', boost={'field': 'year', 'half_life': 'P30D'})", "'year'", "dates", "boost.field"
    ),
    Wrong(D, "client.search('docs', 'q', candidates=9)", "got 9", "None with", "boost"),
    Wrong(D, "client.search('docs', 'q', chunks_per_document=2)", "got 2", "None without", "group_by_document=True"),
    Wrong(D, "client.similar('docs', 'absent')", "'absent'", "holds", "gristmill receipt docs"),
    Wrong(D, "client.recommend('docs', [])", "got []", "at least one example", "{'text': '…'}"),
    Wrong(D, "client.scroll('docs', cursor='page 2')", "'page 2'", "the cursor of a page", "cursor"),
    Wrong(D, "client.facets('docs', '_gristmill.tenant')", "_gristmill", "own", "a field of the metadata"),
    Wrong(D, "gristmill search docs question --boost soon", "'soon'", "JSON", "boost[0]"),
    # tenants
    Wrong(T, "client.search('shared', 'q')", "got none", "keeps tenants apart", "client.tenant(…)"),
    Wrong(
        T, "client.enqueue('shared', {'id': '1', 'text': 'x'})", "got none", "keeps tenants apart", "client.tenant(…)"
    ),
    Wrong(T, "client.create_collection('shared', tenants=False)", "False", "True", "cannot be changed"),
    Wrong(T, "client.tenant('acme').get('shared', '1', tenant='other')", "'other'", "of 'acme' alone", "leave it out"),
    Wrong(T, "client.tenant('')", "an empty one", "non-empty", "tenant"),
    Wrong(T, "client.tenant('acme').create_collection('new')", "create_collection", "no attribute", "TenantClient"),
    # bulk loads, payload indexes, layout
    Wrong(A, "client.create_collection('new', bulk='yes')", "got 'yes'", "True or False", "bulk"),
    Wrong(A, "client.begin_bulk('docs', for_s=-1)", "got -1", "number from 1 on", "for_s"),
    Wrong(A, "client.finish_bulk('docs', timeout_s='long')", "got 'long'", "number", "timeout_s"),
    Wrong(A, "client.bulk('missing').__enter__()", "missing", "does not exist", "create_collection"),
    Wrong(A, "client.create_collection('new', indexes={'lang': 'string'})", "got 'string'", "one of", "'keyword'"),
    Wrong(A, "client.create_collection('new', indexes=['lang'])", "got ['lang']", "mapping", "'lang': 'keyword'"),
    Wrong(A, "client.indexes.create('docs', {'year': 'int'})", "got 'int'", "one of", "'integer'"),
    Wrong(A, "client.create_collection('new', quantization='scalar')", "got 'scalar'", "one of", "'int8'"),
    Wrong(A, "client.create_collection('new', hnsw={'M': 16})", "got 'M'", "ef_construct", "hnsw"),
    Wrong(A, "client.create_collection('new', on_disk='yes')", "got 'yes'", "True or False", "on_disk"),
    Wrong(A, "client.create_collection('new', shards=0)", "got 0", "from 1", "shards"),
    Wrong(A, "client.create_collection('new', replicas=2, write_consistency=3)", "got 3", "at most", "2 replicas"),
    Wrong(A, "client.create_collection('new', replication_factor=2)", "replication_factor", "unexpected", "`replicas`"),
    # files
    Wrong(F, "gristmill ingest nowhere.jsonl -c docs", "nowhere.jsonl", "file", "path"),
    Wrong(F, "gristmill ingest https://example.com/docs.jsonl -c docs", "https://example.com", "file", "curl"),
    Wrong(F, "gristmill ingest docs.xyz -c docs", ".xyz", ".jsonl", "--format", files={"docs.xyz": "x"}),
    Wrong(
        F,
        "gristmill ingest photo.jsonl -c docs",
        "Portable Network Graphics",
        "expected text",
        "photo.jsonl",
        files={"photo.jsonl": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 100},
    ),
    Wrong(
        F,
        "gristmill ingest docs.jsonl -c docs",
        "near",
        "JSON",
        "docs.jsonl:1",
        files={"docs.jsonl": '{"id": "1", "text": \n'},
    ),
    Wrong(
        F,
        "gristmill ingest docs.jsonl -c docs",
        "'body'",
        "text to embed",
        "--text-field",
        files={"docs.jsonl": '{"id": "1", "body": "x"}\n'},
    ),
    Wrong(
        F, "gristmill ingest docs.csv -c docs", "'body'", "column", "--text-field", files={"docs.csv": "id,body\n1,x\n"}
    ),
    Wrong(F, "gristmill ingest docs.csv -c docs", "3", "2", "docs.csv:2", files={"docs.csv": "id,text\n1,x,y\n"}),
    Wrong(
        F,
        "gristmill ingest docs.txt -c docs --encoding klingon",
        "klingon",
        "the name of a text encoding",
        "such as utf-8",
        files={"docs.txt": "x"},
    ),
    Wrong(
        F,
        "gristmill ingest docs.txt -c docs --encoding ascii",
        "0xe4",
        "ASCII",
        "--encoding",
        files={"docs.txt": "你好"},
    ),
    Wrong(
        F,
        "gristmill ingest docs.jsonl.gz -c docs",
        "gz",
        "readable",
        "docs.jsonl.gz",
        files={"docs.jsonl.gz": "not compressed"},
    ),
    Wrong(
        F,
        "gristmill ingest docs.parquet -c docs",
        "not",
        "parquet",
        "docs.parquet",
        files={"docs.parquet": "no parquet"},
    ),
    Wrong(
        F,
        "gristmill ingest a.md -c docs",
        "2024-02-30",
        "day is out of range",
        "a.md:2",
        files={"a.md": "---\ndate: 2024-02-30\n---\n# T\n\ntext\n"},
    ),
    # filters
    Wrong(W, "gristmill search docs question -w year", "year", "key=value", "key=value"),
    Wrong(W, "client.search('docs', 'q', where='year = 2024')", "got str", "mapping", "such as"),
    Wrong(W, "client.search('docs', 'q', where={'year': {'greater': 1}})", "greater", "gte", "year"),
    Wrong(W, "client.search('docs', 'q', where={'year': {'gte': 'never'}})", "never", "number", "year"),
    Wrong(W, "client.search('docs', 'q', where={'': 1})", "got an empty one", "non-empty", "where"),
    Wrong(W, "client.search('docs', 'q', where={'k': object})", "type", "expected", "k"),
    Wrong(W, "client.search('docs', 'q', filter={'year': 2024})", "filter", "unexpected", "`where`"),
]


def collect() -> list[tuple[Wrong, str]]:
    """Every one with its sentence."""
    with Client.embedded(model="hash:16") as client:
        client.create_collection("docs")
        client.enqueue("docs", {"id": "1", "text": "text", "metadata": {"year": 2024, "title": "Rent"}}).wait(60)
        client.create_collection("shared", tenants=True)
        duty = Instruction(name="duty", text="Given a duty, find its clause")
        client.create_collection("views", lenses={"legal": "Given a clause, find its duty"}, instructions=duty)
        client.create_collection("wordless", keyword=False)
        return [(wrong, sentence(wrong, client)) for wrong in WRONG]


def page_of(told: list[tuple[Wrong, str]]) -> str:
    """`docs/reference/wrong-inputs.md`."""

    kinds = dict.fromkeys(wrong.kind for wrong, _ in told)
    parts = [f"## {kind.capitalize()}\n\n{_rows([each for each in told if each[0].kind == kind])}" for kind in kinds]
    return "\n\n".join((_HEAD.format(count=len(told) + 1), *parts, _strict())) + "\n"


_HEAD = """# Wrong inputs

{count} wrong inputs, and the sentence that each gets: what came, what was expected, and what to do next. The working
directory is `/home/ada`; `client` is a client with the collection `docs`. With `--json` the same sentence is the `message`
of one object.

<!-- Made by `make docs` from `tests/wrong_inputs.py`: change that. -->"""


#: What only a server says, here of a collection "docs" in strict mode; `integration/test_unindexed_filters.py` holds it
#: against one.
STRICT_GIVEN = "client.count('docs', {'year': {'gte': 2020}})   # on a server, 'docs' in strict mode"
STRICT_SAID = (
    "InvalidInput: where.year: expected a field with an index of type float or integer, since collection 'docs' is in "
    "strict mode, got one without; `gristmill collections index create docs year=integer` makes one, or "
    "client.indexes.create"
)


def _rows(told: list[tuple[Wrong, str]]) -> str:
    rows = (f"| {_code(_typed(wrong))} | {said.replace('|', chr(92) + '|')} |" for wrong, said in told)
    return "\n".join(("| given | said |", "|---|---|", *rows))


def _strict() -> str:
    return f"## Filters in strict mode\n\n| given | said |\n|---|---|\n| {_code(STRICT_GIVEN)} | {STRICT_SAID} |"


def _typed(wrong: Wrong) -> str:
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in wrong.environment.items())
    return f"{variables} {wrong.given}".strip() + "".join(
        f"   # {name}: {_short(it)}" for name, it in wrong.files.items()
    )


def _short(content: bytes | str) -> str:
    return repr(content if len(content) < 40 else content[:24])


def _code(text: str) -> str:
    return f"`` {text.replace('|', chr(92) + '|')} ``"
