"""Settings as keyword arguments: every one by its name, and an answer for those who write another library's."""

import gc
import inspect
import pickle
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from gristmill import AsyncClient, Client, ClientSettings, GristmillError, InvalidInput, StoreUnavailable
from gristmill.options import ClientOptions, EmbeddedOptions
from gristmill_worker.settings import WorkerSettings

OPENERS: list[Callable[..., Any]] = [Client, AsyncClient, Client.embedded, AsyncClient.embedded, ClientSettings]


def test_the_typed_names_are_those_of_the_settings() -> None:
    assert set(get_type_hints(ClientOptions)) == set(ClientSettings.model_fields)
    assert set(get_type_hints(EmbeddedOptions)) == set(WorkerSettings.model_fields) - {"embedded_path"}


@pytest.mark.parametrize("opener", [Client, AsyncClient])
def test_help_names_every_setting(opener: type[Any]) -> None:
    assert set(ClientSettings.model_fields) < set(inspect.signature(opener).parameters)
    assert set(WorkerSettings.model_fields) - {"embedded_path"} < set(inspect.signature(opener.embedded).parameters)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("url", "qdrant_url"),
        ("host", "qdrant_url"),
        ("port", "qdrant_url"),
        ("api_key", "qdrant_api_key"),
        ("grpc_port", "qdrant_grpc_port"),
        ("prefer_grpc", "qdrant_prefer_grpc"),
        ("timeout", "qdrant_timeout_s"),
        ("broker", "redis_url"),
        ("broker_url", "redis_url"),
        ("redis", "redis_url"),
        ("model_name", "model"),
        ("model_name_or_path", "model"),
        ("base_url", "model"),
        ("redis_ulr", "redis_url"),
        ("qdrant_uri", "qdrant_url"),
        ("QDRANT_URL", "qdrant_url"),
        ("queue_max_docs", "queue_max_documents"),
    ],
)
@pytest.mark.parametrize("opener", OPENERS, ids=lambda each: each.__qualname__)
def test_another_librarys_name_is_answered_with_ours(opener: Callable[..., Any], name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"{name!r}; did you mean `{meant}`"):
        opener(**{name: "x"})


def test_the_place_of_an_embedded_client_has_a_name_of_its_own() -> None:
    with pytest.raises(TypeError, match="did you mean `embedded_path`"):
        Client(location=":memory:")  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match="did you mean `path`"):
        Client.embedded(location=":memory:")  # type: ignore[call-arg]  # that is the point


def test_a_setting_of_the_worker_is_said_to_be_one() -> None:
    with pytest.raises(TypeError, match="a setting of the worker"):
        Client(device="cuda")  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize("opener", OPENERS, ids=lambda each: each.__qualname__)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "localhost:6379"),
        ("redis_url", "redis://localhost:port"),
        ("redis_url", 6379),
        ("qdrant_url", "localhost"),
        ("qdrant_url", "http://"),
        ("qdrant_url", "http://host:port"),
        ("qdrant_grpc_port", 70_000),
        ("qdrant_timeout_s", "soon"),
        ("key_prefix", "a b"),
        ("model", ""),
        ("roster", "perhaps"),
        ("queue_max_bytes", float("nan")),
    ],
)
def test_a_bad_value_is_refused_by_name(opener: Callable[..., Any], name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"GRISTMILL_{name.upper()}") as refused:
        opener(**{name: value})
    assert refused.value.field == name


@pytest.mark.parametrize("wrong", ["redis://localhost", {"redis_url": "redis://localhost"}, 5])
def test_settings_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="expected ClientSettings"):
        Client(wrong)


def test_single_settings_win_over_ready_made_ones_and_these_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", "redis://of-the-environment:1")
    settings = ClientSettings(redis_url="redis://ready-made:2", key_prefix="ready-made")
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", "http://later:3")
    with Client(settings, key_prefix="single", qdrant_url="https://host", qdrant_api_key="secret") as client:
        shown = repr(client)
        assert "redis://ready-made:2" in shown
        assert "https://host" in shown
        assert "'single'" in shown
        assert "secret" not in shown
    assert settings.key_prefix == "ready-made"
    with Client(settings) as client:
        assert "http://localhost:6333" in repr(client)
    with Client(key_prefix="single") as client:
        assert "redis://of-the-environment:1" in repr(client)
        assert "http://later:3" in repr(client)


def test_an_embedded_client_takes_settings_of_the_worker() -> None:
    with Client.embedded(model="hash:16", threads=1, dtype="float32", max_tokens=64) as client:
        assert client.models.get("hash:16").max_tokens == 64
    with pytest.raises(InvalidInput, match="GRISTMILL_THREADS"):
        Client.embedded(model="hash:16", threads=0)


@pytest.mark.filterwarnings("ignore:unclosed file")  # qdrant-client's, of the lock that it could not take
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_that_another_client_has_open_is_said_to_be_in_use(tmp_path: Any) -> None:
    with Client.embedded(tmp_path, model="hash:16"), pytest.raises(StoreUnavailable, match="in use") as refused:
        Client.embedded(tmp_path, model="hash:16")
    assert refused.value.field == "path"
    del refused
    gc.collect()


def test_errors_survive_pickling_with_their_attributes() -> None:
    error = pickle.loads(pickle.dumps(GristmillError("text", field="f", collection="c", model="m")))
    assert (str(error), error.field, error.collection, error.model) == ("text", "f", "c", "m")
