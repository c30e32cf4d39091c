"""`gristmill health`: what a container's or a cluster's probe runs, many times an hour. Loads nothing that takes time.

Live: whoever is not should be killed and started again. It says nothing of Redis, Qdrant or a model server, since a new
process would not find them any better. Ready: warm, and taking work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from gristmill.probes.pulse import Pulse, pulse_folder, read_pulses

#: Seconds without a word after which a process does not move: it writes every second, or after a few while it loads.
STALE_S = 30.0


@dataclass(frozen=True, slots=True)
class Health:
    """What the pulses say together."""

    live: bool
    ready: bool
    #: What speaks against either, a sentence each.
    findings: list[str] = field(default_factory=list)


def judge(pulses: Sequence[Pulse]) -> Health:
    """What the processes of one machine, or container, are together: live if all are, ready if all that should be are."""
    if not pulses:
        nobody = f"no worker of this user runs here ({pulse_folder()}); start one with `gristmill worker --model …`"
        return Health(live=False, ready=False, findings=[nobody])
    dead = [sentence for each in pulses if (sentence := _ailment(each))]
    waiting = [
        f"{each.kind} {each.pid} is {each.state}" + (f": {each.detail}" if each.detail else "")
        for each in pulses
        if each.kind == "worker" and each.state != "ready"
    ]
    missing = [f"supervisor {each.pid}: {short}" for each in pulses if (short := _missing(each, pulses))]
    draining = [
        f"supervisor {each.pid} is draining" for each in pulses if each.kind != "worker" and each.state == "draining"
    ]
    return Health(
        live=not dead,
        ready=not (dead or waiting or missing or draining),
        findings=[*dead, *waiting, *missing, *draining],
    )


def _ailment(pulse: Pulse) -> str:
    if pulse.age_s() > STALE_S:
        still = f"{pulse.kind} {pulse.pid} has not moved for {pulse.age_s():.0f} s (expected every second)"
        return f"{still}; end it, and it starts again"
    return f"{pulse.kind} {pulse.pid}: {pulse.ails}" if pulse.ails else ""


def _missing(pulse: Pulse, pulses: Sequence[Pulse]) -> str:
    there = sum(each.supervisor == pulse.pid for each in pulses)
    return f"{there} of its {pulse.workers} workers are there" if there < pulse.workers else ""


def probe(*, live: bool, as_json: bool) -> int:
    """Print how the workers of this machine are.

    Args:
        live: ask only whether they move; else whether they take work, too.
        as_json: one object instead of sentences.

    Returns:
        0 for yes, 1 for no.
    """
    pulses = list(read_pulses())
    health = judge(pulses)
    well, yes = (health.live, "live") if live else (health.ready, "ready")
    if as_json:
        processes = [asdict(each) | {"age_s": round(each.age_s(), 2)} for each in pulses]
        sys.stdout.write(json.dumps(asdict(health) | {"processes": processes}) + "\n")
    else:
        sys.stdout.write("\n".join([yes if well else f"not {yes}", *health.findings]) + "\n")
    return 0 if well else 1


def called(arguments: Sequence[str]) -> int | None:
    """Run the probe for a command line that is exactly one of the usual ones; None leaves every other to the parser."""
    options = set(arguments)
    if (
        len(options) < len(arguments)
        or not options <= {"--live", "--ready", "--json"}
        or {"--live", "--ready"} <= options
    ):
        return None
    return probe(live="--live" in options, as_json="--json" in options)
