"""CPU time and memory of the processes that take part, and of the servers where they run on this machine."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from gristmill.ledger.connection import broker_errors, connect
from gristmill.settings import ClientSettings

#: CPU seconds so far, or None where they cannot be seen.
CpuClock = Callable[[], float | None]


def processes_clock(pids: Sequence[int]) -> CpuClock:
    """Of processes with their children that live."""
    heads = [psutil.Process(pid) for pid in pids]

    def read() -> float:
        return sum(_cpu_s(each) for head in heads for each in (head, *head.children(recursive=True)))

    return read


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def largest_rss_mb(pids: Sequence[int]) -> float:
    """Resident memory of the largest of the processes, in 10^6 bytes."""
    return float(max(psutil.Process(pid).memory_info().rss for pid in pids)) / 1e6


def qdrant_clock(settings: ClientSettings) -> CpuClock:
    """Of the process that listens at Qdrant's address, where that is on this machine and may be looked at."""
    address = settings.qdrant_address
    pid = _listener(address.host, address.port)
    return (lambda: None) if pid is None else processes_clock([pid])


def _listener(host: str, port: int) -> int | None:
    try:
        here = {each[4][0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        ours = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    except (OSError, psutil.Error):
        return None
    found = (each.pid for each in listening if each.laddr.port == port)
    return next(found, None) if here & ours else None


def redis_clock(settings: ClientSettings) -> CpuClock:
    """Of Redis as it says itself, wherever it runs."""
    client = connect(settings)

    def read() -> float | None:
        with broker_errors(settings.redis_url):
            said: dict[str, Any] = client.info("cpu")
        return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])

    return read


def added_up(clocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds by cause of several idle clocks together; see `IdleClock.seconds`."""
    return {cause: sum(each[cause] for each in clocks) for cause in dict.fromkeys(itertools.chain(*clocks))}


def idle_shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Which part of a pass models waited, by cause.

    Args:
        before: what idle clocks said some time before the pass, and after whatever else there was to do.
        after: what they said some time after it.
        seconds: of the pass, times the number of clocks.
    """
    spent = {cause: after[cause] - before[cause] for cause in after}
    # Before it began and after it ended there was no work either.
    spent["no_work"] -= max(0.0, sum(spent.values()) - seconds)
    del spent["busy"]
    return {cause: max(0.0, each) / seconds for cause, each in spent.items()}
