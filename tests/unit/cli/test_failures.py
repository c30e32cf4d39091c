"""What goes wrong is a sentence, with `--json` one object, and never a traceback; the exit code says whose fault it was."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gristmill
import gristmill.cli.schema
from gristmill.cli.failures import guarded
from gristmill.cli.root import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `gristmill` with arguments in this process; gives exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gristmill", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def broken(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize("arguments", [(), ("jobs",), ("collections",), ("-h",), ("jobs", "-h"), ("search", "--help")])
def test_who_asks_what_there_is_hears_it_and_is_not_at_fault(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told(run: Run, option: str) -> None:
    assert run(option) == (0, f"gristmill {gristmill.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("ingst",), "'ingest'"),
        (("jobs", "lst"), "'list'"),
        (("ingest", "x", "--colection", "c"), "`--collection`"),
        (("ingest", "x", "--text-column", "c"), "`--text-field`"),
        (("search", "c", "q", "--top-k", "5"), "`--limit`"),
        (("search", "c", "q", "--filter", "a=1"), "`--where`"),
        (("search", "c", "q", "--url", "http://host"), "GRISTMILL_QDRANT_URL=…"),
        (("jobs", "list", "--redis-url", "redis://host"), "GRISTMILL_REDIS_URL=…"),
        (("jobs", "list", "--verbose"), "`--debug`"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(run: Run, arguments: tuple[str, ...], meant: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert f"did you mean {meant}?".lower() in err.lower()


def test_an_option_without_its_value_is_no_unknown_one(run: Run) -> None:
    code, _, err = run("search", "c", "q", "--mode")
    assert (code, "requires an argument" in err, "no such option" in err) == (2, True, False), err


def test_of_several_words_those_that_there_are_are_told(run: Run) -> None:
    code, _, err = run("search", "c", "q", "--mode", "sparse")
    assert code == 2
    assert "expected one of 'dense', 'keyword', 'hybrid', got 'sparse'" in " ".join(err.split())


@pytest.mark.parametrize(
    ("error", "kind", "code", "said"),
    [
        (TypeError("x"), "Bug", 70, "this is a bug in gristmill, please report it: TypeError: x"),
        (MemoryError(), "Bug", 70, "MemoryError"),
        (ImportError("no module"), "Bug", 70, "no module"),
        (KeyboardInterrupt(), "Interrupted", 130, "what was accepted stays accepted"),
        (KeyboardInterrupt("640 documents were accepted"), "Interrupted", 130, "640 documents were accepted"),
        (gristmill.InvalidInput("limit: expected 1, got 0"), "InvalidInput", 2, "limit: expected 1, got 0"),
        (gristmill.StoreUnavailable("Qdrant is away"), "StoreUnavailable", 1, "Qdrant is away"),
    ],
)
def test_whatever_is_raised_is_a_sentence_or_one_object(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, code: int, said: str
) -> None:
    monkeypatch.setattr(gristmill.cli.schema, "json_schema", broken(error))
    ended, out, err = run("schema")
    assert (ended, out) == (code, "")
    assert err.startswith(f"{kind}: ")
    assert said in err
    assert "Traceback" not in err
    for debugging in (("--debug", "schema"), ("schema", "--debug")):
        ended, out, err = run(*debugging)
        assert (ended, out) == (code, "")
        assert "Traceback" in err
        assert "in fail" in err
        assert said in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "jobs", "list", "--no-such"),
        ("no-such", "--json"),
        ("jobs", "list", "--limit", "none", "--json"),
        ("search", "--json"),
        ("search", "c", "q", "-w", "novalue", "--json"),
        ("ingest", "no-such-file", "-c", "c", "--json"),
        ("ingest", "https://example.com/a.jsonl", "-c", "c", "--json"),
        ("collections", "delete", "c", "--json"),
    ],
)
def test_with_json_every_failure_is_one_object(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    code, out, err = run(*arguments)
    assert (code, err) == (2 if "delete" not in arguments else 1, "")
    assert out.count("\n") == 1
    assert set(json.loads(out)) == {"error", "message"}


def test_what_stands_behind_two_dashes_is_no_option(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    code, out, err = run("search", "--", "c", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("CollectionNotFound: ")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.filterwarnings("ignore:unclosed file")  # qdrant-client's, of the lock that it could not take
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_embedded_folder_in_use_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool
) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    with gristmill.Client():
        code, out, err = run("collections", "list", *(["--json"] if as_json else []))
    assert code == 1
    assert "in use" in (json.loads(out)["message"] if as_json else err)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("GRISTMILL_MODEL=x\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("GRISTMILL_MODEL=模型\n".encode("gb18030"), "another encoding; save it as UTF-8"),
        (None, "a folder"),
    ],
)
def test_a_dotenv_that_cannot_be_read_is_said(run: Run, tmp_path: Path, content: bytes | None, got: str) -> None:
    file = tmp_path / ".env"
    file.mkdir() if content is None else file.write_bytes(content)
    code, _, err = run("jobs", "list")
    assert (code, err) == (2, f"InvalidInput: .env: expected a text file in UTF-8 at {file}, got {got}\n")
    assert json.loads(run("jobs", "list", "--json")[1])["error"] == "InvalidInput"


def test_a_dotenv_with_a_byte_order_mark_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("\ufeffGRISTMILL_MODEL=hash:16\n".encode())
    assert gristmill.ClientSettings().model == "hash:16"


def test_a_mistyped_variable_is_named_and_not_passed_over(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_ULR", "redis://host")
    monkeypatch.setenv("GRISTMILL_OF_OURS", "not ours to judge")
    (tmp_path / ".env").write_text("GRISTMILL_QDRANT_URLS=http://host\n")
    told = gristmill.settings.mistyped()
    assert told == [
        "GRISTMILL_QDRANT_URLS is no setting and has no effect; did you mean GRISTMILL_QDRANT_URL?",
        "GRISTMILL_REDIS_ULR is no setting and has no effect; did you mean GRISTMILL_REDIS_URL?",
    ]


@pytest.mark.parametrize(
    ("logger", "shown"),
    [
        ("gristmill.ingest.producer", "warning: enqueue waits\n"),
        ("gristmill.ingest.intake", ""),
        ("gristmill.ingest.jobs", ""),
    ],
)
def test_a_command_shows_warnings_but_for_those_that_its_screen_says(
    logger: str, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_: list[str]) -> None:
        assert logging.lastResort
        said = {"name": logger, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "enqueue waits"}
        logging.lastResort.handle(logging.makeLogRecord(said))

    assert guarded(run, []) == 0
    assert capfd.readouterr().err == shown
