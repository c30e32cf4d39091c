"""The one place where what goes wrong becomes a sentence, or with `--json` one object, and an exit code.

0    done
1    it failed, or part of the input was refused
2    the call itself was wrong
70   a bug of Gristmill's
130  Ctrl-C
141  nobody reads the other end of the pipe any more
"""

from __future__ import annotations

import difflib
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from gristmill.cli.commands import Interrupted
from gristmill.cli.terminal import OutputFailed, standard_streams, visible
from gristmill_schemas.errors import GristmillError, InvalidInput, ModelUnavailable, NotInstalled
from gristmill_schemas.redaction import redact

FAILED, WRONG_CALL, BUG, INTERRUPTED = 1, 2, 70, 130

#: What users of other programs would type, and what it is here.
_OPTIONS_ELSEWHERE = {
    **dict.fromkeys(("top-k", "topk", "k", "top", "size", "max-results", "num-results"), "--limit"),
    **dict.fromkeys(("filter", "filters", "query-filter", "metadata"), "--where"),
    **dict.fromkeys(("index", "index-name", "collection-name", "name", "into", "to"), "--collection"),
    **dict.fromkeys(("id-column", "id-key", "key"), "--id-field"),
    **dict.fromkeys(("text-column", "text-key", "column", "content-field"), "--text-field"),
    **dict.fromkeys(("type", "input-format", "file-type"), "--format"),
    **dict.fromkeys(("output", "json-output", "output-format"), "--json"),
    **dict.fromkeys(("prompt", "task", "query-instruction"), "--instruction"),
    **dict.fromkeys(("verbose", "v", "traceback", "trace", "vv"), "--debug"),
    **dict.fromkeys(("yes", "force", "f"), "--yes"),
    **dict.fromkeys(("model-name", "model-id", "embedding-model"), "--model"),
}
#: What is a setting here: the same for every command, so no option of any.
_SETTINGS_ELSEWHERE = {
    **dict.fromkeys(("url", "host", "qdrant", "qdrant-url", "endpoint"), "GRISTMILL_QDRANT_URL"),
    **dict.fromkeys(("api-key", "apikey", "token", "qdrant-api-key"), "GRISTMILL_QDRANT_API_KEY"),
    **dict.fromkeys(("redis", "broker", "redis-url", "broker-url"), "GRISTMILL_REDIS_URL"),
    **dict.fromkeys(("path", "embedded-path", "in-memory", "location"), "GRISTMILL_EMBEDDED_PATH"),
    **dict.fromkeys(("model",), "GRISTMILL_MODEL"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said of something that went wrong."""

    kind: str
    message: str
    code: int


def guarded(run: Callable[[list[str]], object], arguments: Sequence[str]) -> int:
    """Run a command line and give its exit code. Nothing that it raises gets out.

    Args:
        run: takes the arguments, without `--debug`; gives an exit code or nothing.
        arguments: as they came.
    """
    ours = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    debug, as_json = "--debug" in ours, "--json" in ours
    rest = [each for each in ours if each != "--debug"] + list(arguments[len(ours) :])
    with standard_streams(), _warnings_as_notes():
        try:
            return _told(lambda: run(rest), rest, debug=debug, as_json=as_json)
        except SystemExit as ended:  # the pipe closed, or a command ended by itself
            return _code(ended.code)


def _told(run: Callable[[], object], arguments: Sequence[str], *, debug: bool, as_json: bool) -> int:
    try:
        code = _code(run())
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the last place where it can become a sentence
        failure = failure_of(error, arguments)
        if debug:
            sys.stderr.write(visible(redact("".join(traceback.format_exception(error)))))
        _tell(failure, as_json=as_json and not isinstance(error, OutputFailed))
        return failure.code
    return code


#: What became of a job is what its screen says.
_SHOWN_ELSEWHERE = ("gristmill.ingest.intake", "gristmill.ingest.jobs")


class _Note(logging.Handler):
    """Warnings of the libraries' and ours, for commands that set up no logging of their own."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name not in _SHOWN_ELSEWHERE:
            from gristmill.cli.output import notes, said, say

            say(f"[yellow]{record.levelname.lower()}[/]: {said(record.getMessage())}", notes)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    before, logging.lastResort = logging.lastResort, _Note(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before


def _code(given: object) -> int:
    return given if isinstance(given, int) else 0


def failure_of(error: BaseException, arguments: Sequence[str] = ()) -> Failure:
    """What is said of an error, where these were the arguments."""
    if isinstance(error, GristmillError):
        wrong = isinstance(error, InvalidInput | ModelUnavailable | NotInstalled)
        return Failure(type(error).__name__, str(error), WRONG_CALL if wrong else FAILED)
    if isinstance(error, KeyboardInterrupt | Interrupted):
        words = str(error) or "what was accepted stays accepted, the same command goes on"
        return Failure("Interrupted", words, INTERRUPTED)
    if isinstance(error, typer.Abort):
        return Failure(
            "Interrupted", "a question was not answered with yes: nothing was changed; `--yes` answers it", FAILED
        )
    if isinstance(error, OutputFailed):
        return Failure("OutputFailed", str(error), FAILED)
    if hasattr(error, "format_message"):  # of a wrong call, by Typer's own click
        return _wrong_call(error, arguments)
    return _bug(error)


def _bug(error: BaseException) -> Failure:
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(
        "Bug",
        f"this is a bug in gristmill, please report it: {told}; the same command with --debug shows where",
        BUG,
    )


def _wrong_call(error: BaseException, arguments: Sequence[str]) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "gristmill"
    told = _no_such_option(error) if hasattr(error, "possibilities") else error.format_message()  # type: ignore[attr-defined]
    if "did you mean" in told.lower():
        return Failure("UsageError", told, WRONG_CALL)
    came = _given(getattr(getattr(error, "param", None), "opts", ()), arguments)
    told = _in_our_words(told.rstrip(".")) + ("" if came is None else f", got {came!r}")
    return Failure("UsageError", f"{told}; see `{path} --help`", WRONG_CALL)


def _in_our_words(told: str) -> str:
    told = re.sub(r"(Value error, )?'[^']*' is not one of ", "expected one of ", told)
    told = told.partition(", unable to ")[0].replace("Input should be a valid integer", "expected an integer")
    return told.replace("Input should be a valid ", "expected a ").replace("Input should be", "expected")


def _given(options: Sequence[str], arguments: Sequence[str]) -> str | None:
    """What an option was given: click's error does not say."""
    for at, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name in options and (separator or at + 1 < len(arguments)):
            return value if separator else arguments[at + 1]
    return None


def _no_such_option(error: BaseException) -> str:
    name = str(getattr(error, "option_name", ""))
    context = getattr(error, "ctx", None)
    known = (
        [each for parameter in context.command.params for each in parameter.opts if each.startswith("--")]
        if context
        else []
    )
    plain = name.lstrip("-").replace("_", "-").lower()
    if (meant := _OPTIONS_ELSEWHERE.get(plain)) and meant in [*known, "--debug"]:
        return f"no such option: {name}; did you mean `{meant}`?"
    if variable := _SETTINGS_ELSEWHERE.get(plain):
        return f"no such option: {name}; that is a setting, of every command: did you mean {variable}=…?"
    close = difflib.get_close_matches(f"--{plain}", [*known, "--help", "--debug"], n=1, cutoff=0.7)
    return f"no such option: {name}" + (f"; did you mean `{close[0]}`?" if close else "")


def _tell(failure: Failure, *, as_json: bool) -> None:
    from gristmill.cli.output import notes, print_json, said, say  # loads Rich: not for `--help`

    told = redact(failure.message)
    if as_json:
        try:
            print_json({"error": failure.kind, "message": told})
            sys.stdout.flush()
            return
        except OutputFailed:
            pass
    message = "\n".join(map(said, told.split("\n")))
    say(f"[bold red]{failure.kind}[/]: {message}", notes)
