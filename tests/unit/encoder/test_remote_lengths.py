"""How long texts are for a model behind a server: by its own tokenizer, where that can be had, and as it counts."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from embedding_server import SIZE, EmbeddingServer, embedding_server
from gristmill import Client, Document
from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.batching.batcher import Batcher, encode_all
from gristmill_worker.batching.submission import Row
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from models import byte_tokenizer

NAME = "acme/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = [
    "Gravity is a force.",
    "用了优惠券但没减钱，应该怎么办？😀",
    "a",
    "The old mill by the river grinds grain into flour, day after day. " * 5,
    "3f9a0c77e1b24d58" * 40,
    "",
]
WINDOW = 80


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """A tokenizer that puts a token before and after each text."""
    return byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        running.models = [NAME]
        yield running


class Hub(ThreadingHTTPServer):
    """A model hub with the tokenizers that a test puts there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        else:
            self.send_header("ETag", '"1"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        point_hub_to(monkeypatch, tmp_path, f"http://127.0.0.1:{running.server_port}")
        yield running
        running.shutdown()
        thread.join()


def point_hub_to(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str, *, offline: bool = False) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)


@pytest.fixture
def cached(words: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tokenizer lies in the hub's cache, and the hub is not asked."""
    repo = tmp_path / "cache" / "models--acme--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "snapshots" / COMMIT).mkdir(parents=True)
    words.save(str(repo / "snapshots" / COMMIT / "tokenizer.json"))
    point_hub_to(monkeypatch, tmp_path / "cache", "http://127.0.0.1:1", offline=True)


def lengths(encoder: Encoder, texts: list[str]) -> list[int]:
    return [each.n_tokens for each in encoder.tokenize(texts)]


def counts(words: Tokenizer, texts: list[str]) -> list[int]:
    return [len(words.encode(text).ids) for text in texts]


class Reader:
    """What a server reads of a text: its first tokens, special ones included; the rest is passed over."""

    def __init__(self, words: Tokenizer, window: int) -> None:
        self.words, self.window, self.hash = words, window, HashEncoder(SIZE, max_tokens=2**20)

    def read(self, text: str) -> str:
        encoding = self.words.encode(text, add_special_tokens=False)
        room = self.window - 2
        return text if len(encoding.ids) <= room else text[: encoding.offsets[room - 1][1]]

    def counted(self, texts: list[str]) -> int:
        return sum(min(count, self.window) for count in counts(self.words, texts))

    def tokenize(self, texts: list[str]) -> list[TokenizedText]:
        return self.hash.tokenize([self.read(text) for text in texts])

    def encode(self, batch: list[TokenizedText]) -> Vectors:
        return self.hash.encode(batch)


def read_first(server: EmbeddingServer, words: Tokenizer, window: int) -> None:
    """From now on the server reads only the first tokens of a text, and counts those."""
    reader: Any = Reader(words, window)
    server.truth, server.counted = reader, reader.counted


# its own tokenizer


@pytest.mark.usefixtures("cached")
def test_a_model_with_a_hubs_name_is_counted_by_its_own_tokenizer(server: EmbeddingServer, words: Tokenizer) -> None:
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, TEXTS) == counts(words, TEXTS)
        assert not any(each.truncated for each in encoder.tokenize(TEXTS))


def test_a_model_with_a_folders_name_is_counted_by_its_own_tokenizer(
    server: EmbeddingServer, words: Tokenizer, tmp_path: Path
) -> None:
    words.save(str(tmp_path / "tokenizer.json"))
    server.models = [str(tmp_path)]
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, TEXTS) == counts(words, TEXTS)


def test_the_tokenizer_alone_is_fetched_once(server: EmbeddingServer, words: Tokenizer, hub: Hub) -> None:
    hub.files[f"/{NAME}/resolve/main/tokenizer.json"] = words.to_str().encode()
    for _ in range(2):
        with closing(open_encoder(server.url)) as encoder:
            assert lengths(encoder, TEXTS) == counts(words, TEXTS)
    assert set(hub.asked) == set(hub.files), "nothing else of the model"
    assert hub.asked.count(hub.asked[0]) == 3, "a look, a look at what is cached, the file: at the first start alone"


def test_a_name_without_an_owner_is_not_the_hubs(server: EmbeddingServer, hub: Hub) -> None:
    for name in ("text-embedding-3-small", "bge-m3:latest", "acme/tiny:Q8_0", "a/b/c"):
        open_encoder(f"{server.url}#{name}").close()
    assert not hub.asked


def test_a_hub_without_the_tokenizer_is_no_reason_to_stop(
    server: EmbeddingServer, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, ["four"]) == [4]
    assert hub.asked
    assert "lengths are estimated" in caplog.text
    assert "knows no such model" in caplog.text


@pytest.mark.parametrize(("offline", "why"), [(True, "HF_HUB_OFFLINE is set"), (False, "out of reach")])
def test_a_start_without_the_hub_says_how_lengths_become_exact(
    server: EmbeddingServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    offline: bool,
    why: str,
) -> None:
    point_hub_to(monkeypatch, tmp_path, "http://127.0.0.1:1", offline=offline)
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, ["four"]) == [4]
    for word in (NAME, why, "HF_ENDPOINT", "hf-mirror", "HF_HOME", "folder"):
        assert word in caplog.text


def test_a_broken_tokenizer_is_no_reason_to_stop(
    server: EmbeddingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    server.models = [str(tmp_path)]
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, ["four"]) == [4]
    assert "expected a readable tokenizer.json" in caplog.text


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("size", [24, 64])
def test_chunks_fit_by_the_models_own_count(server: EmbeddingServer, words: Tokenizer, size: int) -> None:
    with closing(open_encoder(server.url)) as encoder:
        for text in ("用了优惠券但没减钱，应该怎么办？" * 30, "3f9a0c77e1b24d58" * 200, TEXTS[3] * 4):
            spans = encoder.chunk(text, size, size // 8)
            assert max(counts(words, [text[start:end] for start, end in spans])) <= size
            assert text[spans[0][0] : spans[-1][1]].strip() == text.strip()


@pytest.mark.usefixtures("cached")
def test_requests_keep_the_budget_by_the_models_own_count(server: EmbeddingServer, words: Tokenizer) -> None:
    texts = [f"用了优惠券 {number} 0x{number:08x} " * (number % 5 + 1) for number in range(60)]
    with closing(open_encoder(server.url, budget_tokens=400)) as encoder:
        server.requests.clear()
        encode_all(encoder, encoder.tokenize(texts))
    assert max(sum(counts(words, request["input"])) for request in server.requests) <= 400


@pytest.mark.usefixtures("cached")
def test_a_text_that_is_to_be_truncated_is_cut_before_it_is_sent(server: EmbeddingServer, words: Tokenizer) -> None:
    too_long = (400, {"message": f"maximum context length is {WINDOW} tokens"})
    with closing(open_encoder(server.url, max_tokens=WINDOW)) as encoder:
        server.judge = lambda body: too_long if max(counts(words, body["input"])) > WINDOW else None
        server.requests.clear()
        long = encoder.tokenize(TEXTS)
        assert [each.truncated for each in long] == [count > WINDOW for count in counts(words, TEXTS)]
        encoder.encode(long)
        [request] = server.requests
        assert all(text.startswith(sent) for text, sent in zip(TEXTS, request["input"], strict=True))
        assert max(counts(words, request["input"])) == WINDOW, "as much as fits"


@pytest.mark.usefixtures("cached")
def test_what_the_server_adds_to_each_text_is_left_room_for(server: EmbeddingServer, words: Tokenizer) -> None:
    server.counted = lambda texts: sum(counts(words, texts)) + len(texts)
    with closing(open_encoder(server.url, max_tokens=WINDOW)) as encoder:
        assert max(lengths(encoder, TEXTS)) == WINDOW - 1


@pytest.mark.usefixtures("cached")
def test_the_tokenizer_of_another_model_is_not_believed(
    server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.counted = lambda texts: sum(len(text.split()) + 2 for text in texts)
    with closing(open_encoder(server.url)) as encoder:
        assert lengths(encoder, ["four"]) == [4]
    assert "another model's" in caplog.text


#: How servers name the window in which a text does not fit.
STATED: dict[str, tuple[int, str]] = {
    "vLLM": (
        400,
        f"This model's maximum context length is {WINDOW} tokens. However, you requested 1451 tokens in the input for "
        "embedding generation. Please reduce the length of the input.",
    ),
    "SGLang": (400, f"The input (1451 tokens) is longer than the model's context length ({WINDOW} tokens)."),
    "TEI": (413, f"Input validation error: `inputs` must have less than {WINDOW} tokens. Given: 1451"),
    "llama.cpp": (
        500, f"input (1451 tokens) is too large to process. increase the physical batch size (current batch size: {WINDOW})",
    ),
}  # fmt: skip


def refuse_longer(server: EmbeddingServer, words: Tokenizer, who: str) -> None:
    """From now on the server refuses texts beyond the window."""
    status, said = STATED[who]
    server.judge = lambda body: (status, {"message": said}) if max(counts(words, body["input"])) > WINDOW else None


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("who", STATED)
def test_a_window_that_a_server_names_is_known_from_the_start(
    server: EmbeddingServer, words: Tokenizer, who: str
) -> None:
    refuse_longer(server, words, who)
    with closing(open_encoder(server.url)) as encoder:
        tokenized = encoder.tokenize(TEXTS)
        assert [each.truncated for each in tokenized] == [count > WINDOW for count in counts(words, TEXTS)]
        server.requests.clear()
        encoder.encode(tokenized)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("who", STATED)
def test_a_window_that_is_named_later_is_known_from_then_on(
    server: EmbeddingServer, words: Tokenizer, who: str
) -> None:
    texts = ["a mill", "river " * 200, "flour"]
    with closing(open_encoder(server.url)) as encoder:
        refuse_longer(server, words, who)
        rows = rows_of(encoder, texts)
        assert [type(row).__name__ for row in rows] == ["ndarray", "StaleTokens", "ndarray"]
        assert [each.truncated for each in encoder.tokenize(texts)] == [False, True, False]
        assert not any(isinstance(row, Exception) for row in rows_of(encoder, texts))


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("long_texts", ["chunk", "truncate", "refuse"])
def test_a_window_that_is_named_later_kills_no_document_that_could_be_stored(
    server: EmbeddingServer, words: Tokenizer, long_texts: str
) -> None:
    long = " ".join(f"river{number}" for number in range(60))
    with Client.embedded(model=server.url, threads=1, progress=False) as client:
        client.create_collection("c", model=server.url, chunking={"long_texts": long_texts})
        refuse_longer(server, words, "vLLM")
        report = client.enqueue("c", [Document(id="long", text=long), Document(id="short", text="a mill")]).wait(60)
        assert (report.stored, report.dead) == ((1, 1) if long_texts == "refuse" else (2, 0))
        assert report.truncated == (1 if long_texts == "truncate" else 0)
        with pytest.raises(EncodingFailed, match=f"expected at most {WINDOW} tokens"):
            client.search("c", long)


def test_a_window_that_is_named_says_little_where_lengths_are_estimated(server: EmbeddingServer) -> None:
    server.judge = lambda body: (
        (400, {"message": STATED["vLLM"][1]}) if any("river river" in text for text in body["input"]) else None
    )
    with closing(open_encoder(f"{server.url}#plain")) as encoder:
        assert not encoder.tokenize(["mill " * 90])[0].truncated


# what the server counts


def opened_and_cut(server: EmbeddingServer, words: Tokenizer) -> Encoder:
    """An encoder of a server that reads all, until it is started anew and reads only the beginning."""
    read_first(server, words, 2**20)
    encoder = open_encoder(server.url)
    read_first(server, words, WINDOW)
    server.requests.clear()
    return encoder


def rows_of(encoder: Encoder, texts: list[str]) -> list[Row]:
    with closing(Batcher(encoder)) as batcher:
        return batcher.submit(encoder.tokenize(texts)).result(timeout=30)


@pytest.mark.usefixtures("cached")
def test_a_server_that_cuts_silently_later_is_found_out_by_what_it_counts(
    server: EmbeddingServer, words: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["a mill", "river " * 200, "flour", "grain " * 150, "water"]
    with closing(opened_and_cut(server, words)) as encoder:
        rows = rows_of(encoder, texts)
        assert [isinstance(row, EncodingFailed) for row in rows] == [False, True, False, True, False]
        assert "reads about" in str(rows[1])
        again = encoder.tokenize(texts)
        assert [each.truncated for each in again] == [False, True, False, True, False]
        assert not any(isinstance(row, Exception) for row in rows_of(encoder, texts))
    assert caplog.text.count("passes over the rest without a word") == 1


def test_it_is_found_out_without_a_tokenizer_too(server: EmbeddingServer) -> None:
    def reads(most: int) -> None:
        server.truth = HashEncoder(SIZE, max_tokens=most)
        server.counted = lambda texts: sum(min(len(text.split()), most) + 2 for text in texts)

    reads(2**20)
    with closing(open_encoder(f"{server.url}#plain")) as encoder:
        reads(WINDOW)
        texts = ["a mill", "river " * 200, "flour"]
        assert [isinstance(row, EncodingFailed) for row in rows_of(encoder, texts)] == [False, True, False]
        assert [each.truncated for each in encoder.tokenize(texts)] == [False, True, False]


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("long_texts", ["chunk", "truncate", "refuse"])
def test_documents_that_were_cut_are_treated_as_their_collection_wants(
    server: EmbeddingServer, words: Tokenizer, long_texts: Any
) -> None:
    read_first(server, words, 2**20)
    long = " ".join(f"river{number}" for number in range(60))
    with Client.embedded(model=server.url, threads=1, progress=False) as client:
        client.create_collection("c", model=server.url, chunking={"long_texts": long_texts})
        read_first(server, words, WINDOW)
        report = client.enqueue("c", [Document(id="long", text=long), Document(id="short", text="a mill")]).wait(60)
        stored = {each.id: each for each in client.get("c", ["long", "short"])}
        assert (report.stored, report.dead) == ((1, 1) if long_texts == "refuse" else (2, 0))
        assert set(stored) == ({"short"} if long_texts == "refuse" else {"long", "short"})
        assert report.truncated == (1 if long_texts == "truncate" else 0)


#: Ways to count that say nothing about what was read. Those that a sentence shows to be none are not looked at again.
WAYS: dict[str, Callable[[list[str]], Any]] = {
    "not at all": lambda texts: None,
    "zero": lambda texts: 0,
    "one": lambda texts: 1,
    "texts": len,
    "characters": lambda texts: sum(map(len, texts)),
    "as a word": lambda texts: "12",
    "as truth": lambda texts: True,
    "below zero": lambda texts: -5,
    "by halves": lambda texts: 3.5,
    "as a list": lambda texts: [3],
}


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [NAME, "plain"])
def test_counts_that_are_none_blame_no_text(server: EmbeddingServer, way: str, name: str) -> None:
    server.counted = WAYS[way]
    with closing(open_encoder(f"{server.url}#{name}")) as encoder:
        server.requests.clear()
        batch = encoder.tokenize([*TEXTS, "river " * 2000])
        assert encoder.encode(batch).shape == (len(batch), SIZE)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("cached")
def test_a_server_that_counts_one_part_of_a_batch_blames_no_text(server: EmbeddingServer, words: Tokenizer) -> None:
    server.counted = lambda texts: counts(words, texts)[-1]
    texts = [f"river {number} " * 40 for number in range(6)]
    expected = HashEncoder(SIZE)
    with closing(open_encoder(server.url)) as encoder:
        server.requests.clear()
        for _ in range(3):
            vectors = encoder.encode(encoder.tokenize(texts))
            np.testing.assert_allclose(vectors, expected.encode(expected.tokenize(texts)), atol=1e-6)
    assert len(server.requests) == 3 + 1, "it is looked into once"


@pytest.mark.usefixtures("cached")
def test_honest_counts_cost_no_request(server: EmbeddingServer, words: Tokenizer) -> None:
    read_first(server, words, 2**20)
    with closing(open_encoder(server.url)) as encoder:
        server.requests.clear()
        encoder.encode(encoder.tokenize(TEXTS))
    assert len(server.requests) == 1
    assert json.dumps(server.requests[0]["input"]) == json.dumps(TEXTS)
