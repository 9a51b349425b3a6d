"""What a process holds, noted where the next one finds it: after a crash it is given back at once.

Nobody need wait for `ack_wait` then. Three things together make it safe to give back what a process of this machine
held when it died: the kernel's lock on its notes says that it is dead; the lease noted with each envelope, that the
server has given it to nobody else yet; the server's id, that the server did not start anew, and forget whose it was.
Notes are never synced to the disk: they shall survive the process, not the machine.
"""

import contextlib
import fcntl
import os
import time
import uuid
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from libs import telemetry
from libs.nats_client import server_id

_MOST_BYTES = 1024**2
"""Then the notes are written anew, without those that were crossed out."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The monotonic clock counts from here, the same for all processes. https://docs.kernel.org/admin-guide/sysctl/kernel.html"""
_log = telemetry.logger("holds")


class Holds:
    """The notes of one process: a line when it takes something, when it has it for longer, and when it is rid of it."""

    def __init__(self, client: Client, directory: str) -> None:
        """Without a `directory`, or where the machine has no boot id, nothing is noted. Raises OSError."""
        self._client = client
        self._leases: dict[str, float] = {}
        self._noted_lives = ""
        self._written = 0
        self._file: int | None = None
        if directory and _BOOT_ID.exists():
            self._boot_id = _BOOT_ID.read_text().strip()
            self._directory = Path(directory)
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._open()

    def _open(self) -> int:
        """Under its name only when it is locked: nobody shall take its writer for dead."""
        path = self._directory / f"{uuid.uuid4()}.new"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._path = path.rename(path.with_suffix(".held"))
        return file

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
        replies = [reply for path in self._directory.glob("*.held") for reply in _take_over(path, self._lives())]
        for reply in replies:
            await self._client.publish(reply, Msg.Ack.Nak)
        if replies:
            await self._client.flush()
            _log.info("given_back", envelopes=len(replies))
        return len(replies)

    def _lives(self) -> str:
        """Of the server and of this machine, whose clock begins anew with each boot."""
        return f"{server_id(self._client)} {self._boot_id}"

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # a full disk: then `ack_wait` does it
            if self._written > _MOST_BYTES:
                os.ftruncate(self._file, 0)
                kept = "".join(f"+ {until:.3f} {reply}\n" for reply, until in self._leases.items())
                self._written, line = 0, f"= {self._noted_lives}\n{kept}{line}"
            self._written += os.write(self._file, line.encode())


def _take_over(path: Path, lives: str) -> list[str]:
    """What the writer of these notes held when it died, and nobody has been given yet; they are gone afterwards."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(file, closefd=False) as notes:
            text = notes.read()
        os.ftruncate(file, 0)  # another that has it open already finds nothing
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return []  # its writer lives
    finally:
        os.close(file)
    return _held(text, lives)


def _held(text: str, lives: str) -> list[str]:
    """A line that ends in the middle was never finished."""
    leases: dict[str, float] = {}
    known = False
    for line in text.splitlines(keepends=True):
        sign, _, rest = line.rstrip("\n").partition(" ")
        if not line.endswith("\n"):
            break
        if sign == "=":
            known, leases = rest == lives, {}
        else:
            until, _, reply = rest.partition(" ")
            leases[reply] = float(until) if sign == "+" and known else 0.0
    now = time.monotonic()
    return [reply for reply, until in leases.items() if until > now]
