"""What a process holds, noted where the next one finds it: after a crash it is given back at once.

Nobody need wait for `ack_wait` then. Three things together make it safe to give back what a process of this machine
held when it died: the kernel's lock on its notes says that it is dead; the lease noted with each envelope, that the
server has given it to nobody else yet; the server's id, that the server did not start anew, and forget whose it was.
Notes are never synced to the disk: they shall survive the process, not the machine.
"""

import contextlib
import fcntl
import os
import re
import time
import uuid
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs import telemetry
from libs.nats_client import server_id

_MOST_BYTES = 1024**2
"""Then the notes are written anew, without those that were crossed out."""
_TRIES = 3
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The monotonic clock counts from here, the same for all processes. https://docs.kernel.org/admin-guide/sysctl/kernel.html"""
_LIVES = re.compile(r"= (.*)\n")
_CHANGE = re.compile(r"([+-]) (\d+(?:\.\d+)?) (\$JS\.ACK\.[^\s]+)\n")
_log = telemetry.logger("holds")


class Holds:
    """The notes of one process: a line when it takes something, when it has it for longer, and when it is rid of it."""

    def __init__(self, client: Client, directory: str) -> None:
        """Without a `directory`, or where it cannot be used, nothing is noted."""
        self._client = client
        self._leases: dict[str, float] = {}
        self._noted_lives = ""
        self._written = 0
        self._file: int | None = None
        if directory:
            self._directory = Path(directory)
            try:
                self._boot_id = _BOOT_ID.read_text().strip()
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = self._open()
            except OSError as error:
                _log.warning("holds_not_noted", error_type=type(error).__name__)

    def _open(self) -> int:
        """Under its name only when it is locked: nobody shall take its writer for dead. Raises `OSError`."""
        for _ in range(_TRIES):
            path = self._directory / f"{uuid.uuid4()}.new"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._path = path.rename(path.with_suffix(".held"))
            except FileNotFoundError:  # another came before our lock, and took us for dead
                os.close(file)
            else:
                return file
        raise FileNotFoundError

    def note(self, reply: str, seconds: float) -> None:
        """What is acknowledged at `reply` is ours for so long, unless the server forgets it."""
        if self._file is None:
            return
        if self._noted_lives != (lives := self._lives()):
            self._noted_lives, self._leases = lives, {}
            self._write(f"= {lives}\n")
        self._leases[reply] = until = time.monotonic() + seconds
        self._write(f"+ {until:.3f} {reply}\n")

    def prolong(self, reply: str, seconds: float) -> None:
        """Nothing, where it was forgotten meanwhile."""
        if reply in self._leases:
            self.note(reply, seconds)

    def forget(self, reply: str) -> None:
        """To be called before the server is told: what is given back already may be another's by the time we die."""
        if self._leases.pop(reply, None) is not None:
            self._write(f"- 0 {reply}\n")

    def close(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
            self._leases = {}

    async def give_back(self) -> int:
        """What the dead of this machine held, for others to take. Returns how many envelopes that were."""
        if self._file is None:
            return 0
        left = [path for kind in ("*.held", "*.new") for path in self._directory.glob(kind)]
        replies = [reply for path in left for reply in _take_over(path, self._lives())]
        with contextlib.suppress(nats.errors.Error):  # then `ack_wait` does it
            for reply in replies:
                await self._client.publish(reply, Msg.Ack.Nak)
            await self._client.flush()
        if replies:
            _log.info("given_back", envelopes=len(replies))
        return len(replies)

    def _lives(self) -> str:
        """Of the server and of this machine, whose clock begins anew with each boot."""
        return f"{server_id(self._client)} {self._boot_id}"

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        if self._written > _MOST_BYTES:
            kept = "".join(f"+ {until:.3f} {reply}\n" for reply, until in self._leases.items())
            line = f"= {self._noted_lives}\n{kept}{line}"
            self._clear()
        written = 0
        with contextlib.suppress(OSError):
            written = os.write(self._file, line.encode())
        self._written += written
        if written < len(line.encode()):  # a full disk: rather no notes than wrong ones
            self._clear()
            self._leases, self._noted_lives = {}, ""

    def _clear(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._written = 0


def _take_over(path: Path, lives: str) -> list[str]:
    """What the writer of these notes held when it died, and nobody has been given yet; they are gone afterwards."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(file, closefd=False, errors="replace") as notes:
            text = notes.read()
        os.ftruncate(file, 0)  # another that has it open already finds nothing
        path.unlink(missing_ok=True)
        return _held(text, lives)
    except BlockingIOError:
        return []  # its writer lives
    except OSError as error:
        _log.warning("holds_unreadable", error_type=type(error).__name__)
        return []
    finally:
        os.close(file)


def _held(text: str, lives: str) -> list[str]:
    """A line that is not whole, or no line of ours, says nothing."""
    leases: dict[str, float] = {}
    known = False
    for line in text.splitlines(keepends=True):
        if about := _LIVES.fullmatch(line):
            known, leases = about[1] == lives, {}
        elif known and (change := _CHANGE.fullmatch(line)):
            leases[change[3]] = float(change[2]) if change[1] == "+" else 0.0
    now = time.monotonic()
    return [reply for reply, until in leases.items() if until > now]
