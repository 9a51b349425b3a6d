"""The log of one process: 0600 and bounded, although the process itself writes to it without end."""

import os
import shutil
from pathlib import Path

MAX_BYTES = 20 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


class LogFile:
    """NAME.log, and NAME.log.1 with what came before."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def open(self) -> int:
        """A descriptor for the output of a process; the caller closes it."""
        self.rotate()
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def rotate(self) -> None:
        """Copy and truncate when too large: the process keeps its descriptor, which appends.

        Where there is no room for the copy, the bound matters more than the text.
        """
        try:
            if self.path.stat().st_size <= self._max_bytes:
                return
        except FileNotFoundError:
            return
        older = self.path.with_name(self.path.name + ".1")
        try:
            shutil.copy(self.path, older)
            older.chmod(0o600)
        except OSError:
            older.unlink(missing_ok=True)
        os.truncate(self.path, 0)

    def tail(self, lines: int) -> str:
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
