"""Host memory on the way to an accelerator and back: page-locked, so that copies run beside kernels, and used again.

Locking pages takes longer than a small copy, so buffers go round: one that carried token ids up is free again when the
copy has passed the device, which an event tells without waiting; one that brought vectors down is free when they have been
taken out of it. On a CPU nothing is copied and nothing is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from gristmill_worker.encoder.base import Vectors

#: Bytes of the smallest buffer; sizes are powers of two, so that batches of about one size share them.
_SMALLEST: Final = 1 << 16


class Staging:
    """The buffers of one device. Any thread may use it."""

    def __init__(self, device: torch.device) -> None:
        """No memory is taken yet.

        Args:
            device: where copies go to and come from; pages are locked for CUDA only.
        """
        self._device = device
        self._free: list[torch.Tensor] = []
        #: Uploads under way: the event after the copy, and its buffer. In no order: they may be of several streams.
        self._sent: list[tuple[Any, torch.Tensor]] = []
        self._lock = threading.Lock()
        #: Buffers that were ever made: what a test of reuse looks at.
        self.made = 0

    def up(self, array: npt.NDArray[Any], there: torch.Tensor | None = None) -> torch.Tensor:
        """A copy on the device, which the host does not wait for; the array may change at once.

        Args:
            array: what to copy.
            there: a tensor of that shape and number format, which becomes the copy; None makes one.
        """
        source = torch.from_numpy(np.ascontiguousarray(array))
        if there is None:
            # First, since it may not fit: a buffer in hand would be lost.
            there = torch.empty(source.shape, dtype=source.dtype, device=self._device)
        with self._lock:
            self._reclaim()
            buffer = self._take(source.nbytes)
            host = _view(buffer, source)
            host.copy_(source)
            there.copy_(host, non_blocking=True)
            self._sent.append((self._event(), buffer))
        return there

    def down(self, tensor: torch.Tensor) -> Callable[[], Vectors]:
        """Start the copy to the host; the returned call, made once, waits for it and gives an array of its own."""
        with self._lock:
            buffer = self._take(tensor.nbytes)
        host = _view(buffer, tensor)
        host.copy_(tensor, non_blocking=True)
        done = self._event()

        def result() -> Vectors:
            if done is not None:
                done.synchronize()
            vectors = np.array(host.numpy())
            with self._lock:
                self._free.append(buffer)
            return vectors

        return result

    def _reclaim(self) -> None:
        sent, self._sent = self._sent, []
        for event, buffer in sent:
            if event is None or event.query():
                self._free.append(buffer)
            else:
                self._sent.append((event, buffer))

    def _take(self, size: int) -> torch.Tensor:
        fitting = [index for index, each in enumerate(self._free) if each.nbytes >= size]
        if fitting:
            return self._free.pop(min(fitting, key=lambda index: self._free[index].nbytes))
        self.made += 1
        room = max(_SMALLEST, 1 << (size - 1).bit_length()) if size else _SMALLEST
        return torch.empty(room, dtype=torch.uint8, pin_memory=self._device.type == "cuda")

    def _event(self) -> Any:
        return torch.cuda.current_stream(self._device).record_event() if self._device.type == "cuda" else None


def _view(buffer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The beginning of a buffer, in the shape and number format of another tensor."""
    return buffer[: like.nbytes].view(like.dtype).view(like.shape)


@lru_cache
def staging(device: torch.device) -> Staging:
    """The buffers of a device, shared by all that runs there."""
    return Staging(device)


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy to the device; on CUDA without waiting, on CPU not at all."""
    return staging(device).up(array) if device.type == "cuda" else torch.from_numpy(array).to(device)


def to_host(vectors: torch.Tensor) -> Callable[[], Vectors]:
    """Start the copy back; the returned call waits for it."""
    if vectors.is_cuda:
        return staging(vectors.device).down(vectors)
    there: Vectors = vectors.cpu().numpy()
    return lambda: there
