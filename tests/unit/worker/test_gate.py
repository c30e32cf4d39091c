"""The gate: parcels share the worker, a suspect has it to itself and gets its turn."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill_worker.pipeline.gate import Gate
from waiting import eventually


class Visitor:
    """A thread that goes through the gate and stays inside until it is let out."""

    def __init__(self, way: AbstractContextManager[None]) -> None:
        self.inside = threading.Event()
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(way,), daemon=True)
        self._thread.start()

    def _run(self, way: AbstractContextManager[None]) -> None:
        with way:
            self.inside.set()
            self.leave.wait(60)

    def out(self) -> None:
        self.leave.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_many_share_the_worker() -> None:
    gate = Gate()
    visitors = [Visitor(gate.shared()) for _ in range(3)]
    for visitor in visitors:
        assert visitor.inside.wait(60)
        visitor.out()


def test_a_suspect_waits_until_everybody_is_out_and_keeps_newcomers_out() -> None:
    gate = Gate()
    neighbour = Visitor(gate.shared())
    assert neighbour.inside.wait(60)
    suspect = Visitor(gate.alone())
    eventually(lambda: gate._suspects == 1)
    newcomer = Visitor(gate.shared())
    assert not newcomer.inside.is_set()
    assert not suspect.inside.is_set()
    neighbour.out()
    assert suspect.inside.wait(60)
    assert not newcomer.inside.is_set()
    suspect.out()
    assert newcomer.inside.wait(60)
    newcomer.out()


def test_an_error_inside_opens_the_gate_again() -> None:
    gate = Gate()
    for way in (gate.alone, gate.shared, gate.alone):
        try:
            with way():
                raise RuntimeError
        except RuntimeError:
            pass


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=24))
def test_nobody_is_ever_beside_a_suspect_and_everybody_gets_through(suspects: list[bool]) -> None:
    gate, lock, inside, seen = Gate(), threading.Lock(), [0, 0], []

    def go(suspect: bool) -> None:
        with gate.alone() if suspect else gate.shared():
            with lock:
                inside[suspect] += 1
                seen.append(tuple(inside))
            with lock:
                inside[suspect] -= 1

    threads = [threading.Thread(target=go, args=(each,), daemon=True) for each in suspects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(seen) == len(suspects)
    assert all(alone == 0 or (alone, shared) == (1, 0) for shared, alone in seen)
