"""Bulk loads: who holds a collection's index off, and how it is switched on again whatever becomes of them.

A holder says every ten seconds that it still loads, and counts for thirty; on this machine it is gone with its process. The
last to end switches indexing on, unless documents of the collection are still on their way: then, and after a kill, the
workers do, once those are stored (`worker/pipeline/bulk_loads.py`), or the next audit.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from qdrant_client import QdrantClient

from gristmill.arguments import callback, seconds
from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill.store import bulk
from gristmill_schemas import BulkHolder, BulkLoad, CollectionSpec, IndexState, IndexStatus
from gristmill_schemas.errors import CollectionConflict, CollectionNotFound, GristmillError, StoreRefused, WaitTimeout

log = logging.getLogger(__name__)
T = TypeVar("T")

#: For how long a holder counts that falls silent, and how often it speaks.
LEASE_S, _RENEW_S = 30.0, 10.0
#: For how long a holder without a process counts, such as `gristmill collections create --bulk`.
PROMISE_S = 3600.0
#: Pauses between two looks at an index that is being built, seconds.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.1, 2.0


class BulkLoads:
    """The bulk loads of a store, as somebody sees them who may switch indexing on again."""

    def __init__(self, store: QdrantClient, ledger: Ledger, evidence: Evidence) -> None:
        self._store = store
        self._ledger = ledger
        self._evidence = evidence

    def settle(self, spec: CollectionSpec, *, last: bool = False) -> bool:
        """Switch indexing on again where nobody loads any more and nothing is on its way; whether that was so.

        `last`: what is on its way ends with this process, and does not count.
        """
        load = bulk.index_status(self._store, spec.physical, spec.name)[0].bulk
        if load is None or self.living(load) or (not last and self._on_their_way(spec)):
            return False
        log.info("collection %r: nobody loads it any more: indexing is switched on again", spec.name)
        return bulk.restore(self._store, spec.physical, load)

    def living(self, load: BulkLoad) -> list[BulkHolder]:
        """Holders that count."""
        now = self._ledger.now()
        return [each for each in load.holders if each.until > now and not _is_gone(each)]

    def _on_their_way(self, spec: CollectionSpec) -> bool:
        pending = self._evidence.pending(spec.space.model_digest)
        return any(spec.is_meant_by(each.collection, each.collection_key) for each in pending)


class BulkDesk:
    """A client's part in bulk loads: what it holds itself, until it ends that or is closed."""

    def __init__(self, store: QdrantClient, ledger: Ledger, evidence: Evidence, *, local: bool, lives_on: bool) -> None:
        """Nothing is held yet.

        Args:
            store: not guarded against a closed client, since holds end with it.
            ledger: whose clock counts, and likewise.
            evidence: says what is on its way.
            local: it is Qdrant's local mode, which has no index.
            lives_on: whether what is on its way outlives this client, and a worker will look after it.
        """
        self._store = store
        self._ledger = ledger
        self._loads = BulkLoads(store, ledger, evidence)
        self._local = local
        self._lives_on = lives_on
        self._lock = threading.Lock()
        self._holds: dict[_Hold, CollectionSpec] = {}
        #: Collections whose loads have ended here, by physical name.
        self._left: dict[str, CollectionSpec] = {}

    def begin(self, spec: CollectionSpec, promise_s: float | None = None) -> _Hold:
        """Put a collection's index off, until `end`; with a promise for so long, whatever becomes of this process."""
        if self._local:
            log.warning("Qdrant's local mode has no index (HNSW) to put off: %r is loaded as ever", spec.name)
        hold = _Hold(functools.partial(self._say, spec, promise_s), renewed=promise_s is None and not self._local)
        # Before anything is sent: a Ctrl-C may fall between what the server does and what it answers.
        self._left[spec.physical] = spec
        with self._lock:
            self._holds[hold] = spec
        try:
            hold.start()
        except BaseException:
            self.end(hold, begun=False)
            raise
        return hold

    def _say(self, spec: CollectionSpec, promise_s: float | None, hold: _Hold) -> bool:
        if self._local:
            return True
        now, again = self._ledger.now(), hold.since is not None
        process = {"machine": _machine(), "pid": os.getpid()} if promise_s is None else {}
        until = now + (LEASE_S if promise_s is None else promise_s)
        since = hold.since = hold.since or now
        holder = BulkHolder(id=hold.id, since=since, until=until, host=socket.gethostname()).model_copy(update=process)
        return bulk.hold(self._store, spec.physical, holder, again=again)

    def end(self, hold: _Hold, *, begun: bool = True) -> None:
        """This hold is over; a promise is kept, unless it could not even be made."""
        with self._lock:
            spec = self._holds.get(hold)
        hold.stop()
        if spec is not None and not self._local and (hold.renewed or not begun):
            with _left_to_others(spec):
                bulk.release(self._store, spec.physical, hold.id)
                self.settle(spec)
        with self._lock:  # last: what is interrupted before is ended by `close`
            self._holds.pop(hold, None)

    @contextmanager
    def load(self, spec: CollectionSpec) -> Iterator[CollectionSpec]:
        """A bulk load for the time of a `with` block."""
        hold = self.begin(spec)
        try:
            yield spec
        finally:
            self.end(hold)

    def settle(self, spec: CollectionSpec) -> bool:
        """See `BulkLoads.settle`."""
        return not self._local and self._loads.settle(spec)

    def finish(self, spec: CollectionSpec, *, force: bool) -> None:
        """End what this client holds of a collection, and all promises, and switch indexing on again.

        Raises:
            CollectionConflict: other processes hold it, and `force` does not say that they shall not count.
        """
        if self._local:
            return
        with self._lock:
            own = [hold for hold, held in self._holds.items() if held.physical == spec.physical]
            for hold in own:
                del self._holds[hold]
        for hold in own:
            hold.stop()
        bulk.release(self._store, spec.physical, *(hold.id for hold in own))
        load = self.status(spec)[0].bulk
        if load is not None and not force and (others := [each for each in self._loads.living(load) if each.pid]):
            raise _held(spec, others)
        if load is not None:
            bulk.restore(self._store, spec.physical, None if force else load)

    def close(self) -> None:
        """End all that is held."""
        for hold in list(self._holds):
            self.end(hold)
        if not self._lives_on and not self._local:
            for spec in self._left.values():
                with _left_to_others(spec):
                    self._loads.settle(spec, last=True)

    def status(self, spec: CollectionSpec) -> tuple[IndexStatus, bool]:
        """How far the index is; and whether the server needs a nudge to go on."""
        if self._local:
            points = self._store.count(spec.physical).count
            return IndexStatus(collection=spec.name, state=IndexState.READY, points=points, indexed=0), False
        return bulk.index_status(self._store, spec.physical, spec.name)

    def looks(
        self, spec: CollectionSpec, timeout_s: float | None, progress: Callable[[IndexStatus], None] | None
    ) -> Generator[float, None, IndexStatus]:
        """Look until the index is built; yields how long to pause, and returns the last status.

        Raises:
            WaitTimeout: the time is over; Qdrant goes on.
            StoreRefused: Qdrant cannot build it, and says why.
        """
        callback("progress", progress)
        limit_s = seconds("timeout_s", timeout_s)
        until, pause = time.monotonic() + (limit_s or 0), _FIRST_LOOK_S
        while True:
            status, stopped = self.status(spec)
            if progress is not None:
                progress(status)
            if status.state is IndexState.READY:
                return status
            if status.state is IndexState.FAILED:
                raise StoreRefused(f"Qdrant cannot build the index: {status.problem}", collection=spec.name)
            if limit_s is not None and time.monotonic() >= until:
                raise _not_in_time(status, limit_s)
            if stopped:
                bulk.nudge(self._store, spec.physical)
            yield pause
            pause = min(pause * 1.3, _LAST_LOOK_S)


@contextmanager
def _left_to_others(spec: CollectionSpec) -> Iterator[None]:
    """Errors at the end of a load are logged: it has done its work, and others look after the mark."""
    try:
        yield
    except CollectionNotFound:
        pass
    except GristmillError as error:
        told = (
            "collection %r: indexing was not switched on again; workers do, or `gristmill collections finish-bulk`: %s"
        )
        log.warning(told, spec.name, error)


class _Hold:
    """One holder, and the thread that says so."""

    def __init__(self, say: Callable[[_Hold], bool], *, renewed: bool) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.since: float | None = None
        self.renewed = renewed
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="gristmill-bulk", daemon=True)

    def start(self) -> None:
        """Say it, and go on saying it where it is to be renewed."""
        self._say(self)
        if self.renewed:
            self._thread.start()

    def stop(self) -> None:
        """Say it no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(_RENEW_S):
            try:
                if not self._say(self):
                    log.warning("a bulk load was ended by force: indexing is on")
                    return
            except CollectionNotFound:
                return
            except GristmillError as error:
                log.warning("a bulk load cannot be renewed; trying again: %s", error)


def paused(looks: Generator[float, None, T]) -> T:
    """What a generator of pauses returns, after sleeping through them."""
    while True:
        try:
            time.sleep(next(looks))
        except StopIteration as done:
            result: T = done.value
            return result


def _held(spec: CollectionSpec, others: list[BulkHolder]) -> CollectionConflict:
    who = ", ".join(f"process {each.pid} on {each.host}" for each in others)
    return CollectionConflict(
        f"collection {spec.name!r}: still being loaded by {who}; the last of them to end switches "
        "indexing on, and force=True (--force) does it now",
        field="force",
        collection=spec.name,
    )


def _not_in_time(status: IndexStatus, limit_s: float) -> WaitTimeout:
    off = status.state is IndexState.DEFERRED
    way_out = "it is put off for a bulk load that goes on" if off else "Qdrant goes on with it"
    return WaitTimeout(
        f"collection {status.collection!r}: {status.indexed:,} of {status.points:,} points indexed after {limit_s:g} s; "
        f"{way_out}: `gristmill collections wait {status.collection}` follows it",
        field="timeout_s",
        collection=status.collection,
    )


def _is_gone(holder: BulkHolder) -> bool:
    """Whether its process is known to be gone. Of another machine's nothing is known but how long it has been silent."""
    if holder.pid is None or not holder.machine or holder.machine != _machine():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@functools.cache
def _machine() -> str:
    """Names this machine, since its last start, and the table of processes seen from here; empty where that is unknown."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{started}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
