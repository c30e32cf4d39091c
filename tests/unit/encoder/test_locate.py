"""Finding a model: every way of not finding it says which path or name was meant and what to do."""

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.model.digest import model_digest
from gristmill_worker.encoder.model.find import locate


def test_an_existing_folder_is_the_model(qwen3: Path) -> None:
    found = locate(str(qwen3))
    assert (found.folder, found.label, found.revision) == (qwen3, str(qwen3), None)


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "../model", "models/a/b", "~/nothing"])
def test_a_missing_folder_is_called_a_folder(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="no such folder"):
        locate(name)


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelUnavailable, match=r"holds no config\.json \(but notes\.txt\)"):
        locate(str(tmp_path))


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ModelUnavailable, match="is a file"):
        locate(str(tmp_path / "model.gguf"))


def test_a_folder_without_weights_is_unavailable(qwen3: Path, tmp_path: Path) -> None:
    shutil.copytree(qwen3, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelUnavailable, match="expected weights"):
        open_encoder(str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("name", "field"),
    [("hash:0", "model"), ("hash:many", "model"), ("random:gpt5", "model"), ("random:qwen3-0.6b:0", "model")],
)
def test_a_name_that_means_nothing_is_invalid(name: str, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: expected"):
        open_encoder(name)


@pytest.mark.parametrize("option", ["device", "dtype", "pooling"])
def test_an_option_that_means_nothing_is_invalid(qwen3: Path, option: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{option}: expected"):
        open_encoder(str(qwen3), **{option: "nonsense"})  # type: ignore[arg-type]  # the point of the test


class _Hub(BaseHTTPRequestHandler):
    """A hub that knows one gated model and nothing else."""

    def do_GET(self) -> None:  # the name that http.server calls
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    _point_hub_to(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def _point_hub_to(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str) -> None:
    import huggingface_hub.constants as constants
    import huggingface_hub.hf_api as hf_api

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hf_api, "api", hf_api.HfApi(endpoint=url, token=False))


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_does_not_have_names_both_places() -> None:
    with pytest.raises(ModelUnavailable, match=r"neither a folder here .* nor a model on the hub"):
        locate("acme/unheard-of")


@pytest.mark.usefixtures("hub")
def test_a_gated_model_says_how_to_get_in() -> None:
    with pytest.raises(ModelUnavailable, match=r"gated.*HF_TOKEN"):
        locate("acme/gated")


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _point_hub_to(monkeypatch, tmp_path, "http://127.0.0.1:1")
    with pytest.raises(ModelUnavailable, match=r"out of reach.*HF_HOME"):
        locate("acme/model")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("Qwen/Qwen3-Embeding-0.6B", "Qwen/Qwen3-Embedding-0.6B"),
        ("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B"),
        ("BAAI/bge-m-3", "BAAI/bge-m3"),
        ("multilingual-e5-smal", "intfloat/multilingual-e5-small"),
    ],
)
def test_a_mistyped_model_is_answered_with_the_one_that_is_meant(mistyped: str, meant: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"did you mean {meant}\\?"):
        locate(mistyped)


@pytest.mark.parametrize("offline", [False, True])
def test_a_model_that_cannot_be_fetched_gets_one_sentence_with_every_way_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: bool
) -> None:
    import huggingface_hub.constants as constants

    _point_hub_to(monkeypatch, tmp_path, "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    with pytest.raises(ModelUnavailable) as refused:
        locate("acme/model")
    said = str(refused.value)
    ways_on = ("HF_ENDPOINT", "hf-mirror", "modelscope download --model acme/model", "HF_HOME", "--model demo")
    assert [way for way in ways_on if way not in said] == []
    assert ("HF_HUB_OFFLINE is set" in said) == offline
    assert ("HTTPS_PROXY=http://user:***@proxy:3128" in said) != offline
    assert "\n" not in said
    assert refused.value.__cause__ is None


def test_a_cached_snapshot_is_used_while_the_hub_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qwen3: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--acme--tiny"
    shutil.copytree(qwen3, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    _point_hub_to(monkeypatch, tmp_path, "http://127.0.0.1:1")
    found = locate("acme/tiny")
    assert (found.label, found.revision) == ("acme/tiny", commit)
    assert model_digest(found.folder) == model_digest(qwen3), "a snapshot and a copied folder are the same model"
