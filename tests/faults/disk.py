"""A disk that is small, and can be filled: a tmpfs mounted where a server keeps its data. Needs root, and says so."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

FILLER = "filler"


class SmallDisk:
    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size

    def mount(self) -> None:
        """Skips the test where mounting is not allowed."""
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "automata-fault", str(self.path)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("a filesystem cannot be mounted here: the disk-full tests need root")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=False)

    def fill(self) -> None:
        """Take all that is free."""
        with (self.path / FILLER).open("ab") as file:
            for step in (64 * 1024**2, 1024**2, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)

    def clear(self) -> None:
        (self.path / FILLER).unlink(missing_ok=True)
