"""Secrets in every place that takes one, looked for in everything that can be seen."""

from __future__ import annotations

import logging
import pickle
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gristmill import Client, ClientSettings, GristmillError, InvalidInput
from gristmill.settings import provenance
from gristmill_schemas import RefusedMessage, Rejection
from gristmill_schemas.redaction import clean_record, redact, texts, without_secrets
from gristmill_worker.settings import WorkerSettings
from secrets_planted import logged, planted, secrets, shown_by, traces

FAST = settings(max_examples=60, deadline=None, phases=[Phase.generate])


def seen_of(name: str, value: str) -> str:
    """All that settings with this value show of themselves, made or refused."""
    texts._known = texts._Known()  # so that an example does not rest on those before it
    seen = []
    values: dict[str, Any] = {name: value}
    for cls in (ClientSettings, WorkerSettings)[name not in ClientSettings.model_fields :]:
        try:
            made = cls(**values)
        except InvalidInput as error:
            seen.append(shown_by(error))
            continue
        seen += [repr(made), str(made), repr(vars(made)), repr(made.model_dump()), made.model_dump_json()]
        seen += [repr(provenance(made)), repr(made.model_copy(update={"threads": 2}))]
    return "\n".join(seen)


@FAST
@given(planted())
def test_settings_show_no_secret_whether_they_are_made_or_refused(place: tuple[str, str, str]) -> None:
    secret, name, value = place
    assert traces(secret, seen_of(name, value)) == [], value


@FAST
@given(planted())
def test_a_secret_that_became_a_setting_is_shown_by_no_error_and_no_log(place: tuple[str, str, str]) -> None:
    secret, name, value = place
    seen_of(name, value)
    failed = GristmillError(f"Qdrant said: {value} and {secret!r} and {value!r}")
    assert traces(secret, f"{failed} {failed!r}") == []
    foreign = OSError(1, f"cannot speak to {value}")
    assert traces(secret, shown_by(without_secrets(foreign))) == []
    record = logging.LogRecord("kombu", logging.INFO, "", 0, "connected to %s", (value,), (OSError, foreign, None))
    assert traces(secret, logging.Formatter().format(clean_record(record))) == []
    reasons = (
        repr(Rejection(position=1, reason=value)),
        repr(RefusedMessage(reason="", queue="", message=value, refused_at=0)),
    )
    assert traces(secret, "".join(reasons)) == []


URL_SAFE = st.text(st.sampled_from("abcXYZ0189-._~%@:!$*+"), min_size=1, max_size=30)


@FAST
@given(
    URL_SAFE, st.sampled_from(["redis://:{}@h:1/0", "https://u:{}@h/v1", "unix://u:{}@/s", "http://u:{}@proxy:8080"])
)
def test_a_login_in_a_url_is_hidden_though_nobody_told_of_it(password: str, url: str) -> None:
    before, after = url.split("{}")
    assert redact(f"at {url.format(password)}, said") == f"at {before}***{after}, said"


@pytest.mark.parametrize(
    "text",
    [
        "Illegal header value b'Bearer {}'",
        "authorization: Basic {}",
        "{{'Authorization': 'Bearer {}'}}",
        "('authorization', 'Bearer {}')",
        "headers: {{'api-key': '{}'}}",
        "http://h/v1?x=1&api_key={}&y=2",
        "redis://h/0?username=u&password={}",
        "key sk-{} was refused",
    ],
)
def test_a_key_is_hidden_where_keys_stand_though_nobody_told_of_it(text: str) -> None:
    assert "q9Zx73-lmW_kk11" not in redact(text.format("q9Zx73-lmW_kk11"))


@pytest.mark.parametrize(
    "text",
    [
        "Qdrant at http://localhost:6333 cannot be used",
        "http://localhost:6333/collections/a@b.c/points",
        "write to us@example.com or see https://example.com/a?b=c#d",
        "GRISTMILL_QDRANT_API_KEY: expected visible ASCII characters",
        "authorization failed; a bearer token is missing",
        "unix:///run/redis.sock?db=1",
        "set user and password, redis://user:password@host:6379/0",
        "budget_tokens=512, max_tokens=8",
        "redis://user:***@host/0?password=***",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("secret", ["Z9~it's-7", 'Z9~the"7', """Z9~<'}:/%\"""", "Z9~a\\b'7"])
@pytest.mark.parametrize("around", ["{}", '"{}"', "'{}'", """{}'\""""])
def test_a_secret_is_hidden_whatever_marks_the_text_around_it_makes_a_repr_escape(secret: str, around: str) -> None:
    ClientSettings(redis_url=f"redis://:{quote(secret, safe='')}@redis:6379/0")
    shown = redact(repr(around.format(secret)))
    assert secret.replace("\\", "") not in shown.replace("\\", "")


@pytest.mark.parametrize("short", ["a", "ab", "redis"])
def test_a_short_or_common_password_is_hidden_where_it_stands_and_leaves_other_words_alone(short: str) -> None:
    made = ClientSettings(redis_url=f"redis://:{short}@redis:6379/0")
    assert "redis://:***@redis:6379/0" in repr(made)
    assert redact("a redis that is full, abstractly") == "a redis that is full, abstractly"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("q9Zx73lmW\nkk11", "got a line end at position 9"),
        ("Bearer q9Zx73lmWkk11", "got a blank"),
        ("q9Zx73lmWé", "got one that is not ASCII at position 9"),
        ("q9Zx73lmW\x07", "got a control character at position 9"),
        ("'q9Zx73lmWkk11'", "got one in quotation marks"),
        ("q9Zx73lmW" * 500, "expected a key of at most 4096 characters, got 4500"),
        ("   ", "got only blanks"),
    ],
)
@pytest.mark.parametrize("name", ["qdrant_api_key", "remote_api_key"])
def test_a_key_that_no_header_can_carry_is_refused_by_its_variable_and_not_shown(
    name: str, key: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=f"GRISTMILL_{name.upper()} ") as refused:
        WorkerSettings(**{name: key})  # type: ignore[arg-type]  # by name
    assert said in str(refused.value)
    assert "q9Zx73" not in shown_by(refused.value)


def test_a_key_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_QDRANT_API_KEY", " q9Zx73lmWkk11\r\n")
    key = ClientSettings().qdrant_api_key
    assert key is not None
    assert key.get_secret_value() == "q9Zx73lmWkk11"


def test_guarded_settings_work_as_any_text_and_survive_pickling() -> None:
    made = ClientSettings(redis_url="redis://app:q9Zx73lmWkk11@h:1/0")
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.redis_url == "redis://app:q9Zx73lmWkk11@h:1/0"
    assert "q9Zx73" not in repr(again)


@settings(max_examples=3, deadline=None)
@given(secrets())
def test_a_client_of_servers_that_are_away_tells_no_secret(secret: str) -> None:
    from urllib.parse import quote

    login = f"app:{quote(secret, safe='')}"
    seen: list[str] = []
    with (
        logged() as lines,
        Client(redis_url=f"redis://{login}@127.0.0.1:1/0", qdrant_url=f"http://{login}@127.0.0.1:1", qdrant_grpc_port=1,
               qdrant_timeout_s=1) as client,
    ):  # fmt: skip
        seen.append(repr(client))
        for call in (client.collections.list,):
            with pytest.raises(GristmillError) as failed:
                call()
            seen.append(shown_by(failed.value))
    assert traces(secret, "\n".join(seen + lines)) == []
