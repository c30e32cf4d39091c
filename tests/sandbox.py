"""A container without a container engine: a read-only root, a user without rights, names of its own; by bubblewrap, as root.

What it is made of: this machine's `/usr` and `/etc`, the files that it is given, and nothing else. All containers of a test
share one network without a way out, in which ports are free that others have taken on this machine.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def obstacle() -> str | None:
    """What stands in the way of containers here; None where nothing does."""
    if os.geteuid() != 0:
        return "only root may lay out a container's files"
    missing = [name for name in ("bwrap", "setpriv") if shutil.which(name) is None]
    return f"{', '.join(missing)} missing: apt-get install bubblewrap" if missing else None


@contextmanager
def lonely_network() -> Iterator[None]:
    """Put this thread, and what it starts, into a network that has a loopback interface and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no network of its own")
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)


@dataclass(frozen=True, slots=True)
class Container:
    """What one sees and is."""

    user: int
    environment: dict[str, str]
    #: Files and folders that it may read, by their path inside.
    shown: dict[str, Path] = field(default_factory=dict)
    #: Folders that it may write to, by their path inside; handed over to its user.
    writable: dict[str, Path] = field(default_factory=dict)
    folder: str = "/"

    def command(self, *command: str, first: bool = False) -> list[str]:
        """The call that runs it; `first`: as process 1 of its own, as in a container without `init`."""
        call = ["bwrap", "--die-with-parent", "--unshare-ipc", "--unshare-uts", "--dev", "/dev", "--proc", "/proc"]
        call += ["--unshare-pid", "--as-pid-1"] if first else []
        for path in ("/usr", "/etc"):
            call += ["--ro-bind", path, path]
        for name in ("bin", "sbin", "lib", "lib64"):
            call += ["--symlink", f"usr/{name}", f"/{name}"]
        call += _folders(f"{self.folder}/here")
        for outside in self.writable.values():
            outside.mkdir(parents=True, exist_ok=True)
            os.chown(outside, self.user, self.user)
        # What lies in another comes after it.
        for inside, outside in sorted((self.shown | self.writable).items()):
            call += [*_folders(inside), "--bind" if inside in self.writable else "--ro-bind", str(outside), inside]
        call += ["--remount-ro", "/", "--chdir", self.folder, "--clearenv"]
        for name, value in self.environment.items():
            call += ["--setenv", name, value]
        user = str(self.user)
        plain = ["--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        return [*call, "--", "setpriv", *plain, *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(self.command(*command), capture_output=True, text=True, check=False, timeout=120)


def _folders(path: str) -> list[str]:
    """The folders above it that are not this machine's, for everybody to pass through."""
    above = [str(each) for each in reversed(Path(path).parents)]
    made = [each for each in above if each != "/" and not each.startswith(("/usr", "/etc"))]
    return [word for each in made for word in ("--perms", "0755", "--dir", each)]
