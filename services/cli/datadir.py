"""The data directory: where everything of an embedded installation lies, and who may be in it.

DIR/lock             held by the supervisor while it lives
DIR/runtime.json     what runs now: URLs, the API key, process ids (0600)
DIR/control.sock     the supervisor's ear
DIR/ports.json       ports of the last start, taken again if they are free
DIR/secrets/         passwords, keys, credentials
DIR/postgres/ nats/ sandbox/   data of the servers
DIR/holds/           what each process has in hand, for the one that comes after it
DIR/logs/            one file for each process, bounded
DIR/restored.json    what `automata restore` did here; superseded.json: it took everything over from here
"""

import fcntl
import os
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from services.cli.failure import Failure

T = TypeVar("T")

_UNIX_PATH_MAX = 100
"""sockaddr_un holds 108 bytes on Linux, 104 on macOS."""
_LOCK_TRIES = 5
"""`is_running` of another process holds the lock for an instant."""


class Runtime(msgspec.Struct, frozen=True):
    """runtime.json: everything that a client, a test or a benchmark needs."""

    api_url: str
    sandbox_url: str
    application_id: str
    api_key: str
    postgres_dsn: str
    """The owner of the database, not the role of a service."""
    nats_url: str
    processes: dict[str, list[int]]
    health: dict[str, list[str]] = {}
    """Base URLs of /livez, /readyz and /metrics."""


class DataDir:
    """Paths under one directory. Everything made here is 0700 or 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.secrets = self.path / "secrets"
        self.logs = self.path / "logs"
        self.holds = self.path / "holds"
        self.postgres = self.path / "postgres"
        self.nats = self.path / "nats"
        self.sandbox = self.path / "sandbox"
        self.runtime_file = self.path / "runtime.json"
        self.ports_file = self.path / "ports.json"
        self.pids_file = self.path / "pids.json"
        self.superseded_file = self.path / "superseded.json"
        self._lock: int | None = None

    def create(self) -> None:
        """Raises `Failure` where it cannot be made or belongs to somebody else."""
        try:
            for directory in (self.path, self.secrets, self.logs, self.nats, self.sandbox):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory.chmod(0o700)
        except OSError as error:
            raise Failure(
                f"the data directory {self.path} cannot be used: {error.strerror}",
                "choose another one with --data-dir, or start as the user who owns it",
            ) from None

    def lock(self) -> bool:
        """Become the one supervisor here. False: there is one already."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
            else:
                self._lock = descriptor
                return True
        os.close(descriptor)
        return False

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_running(self) -> bool:
        """True while a supervisor holds the lock."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def control_path(self) -> str:
        """The control socket's address, through a descriptor of the directory where its path is too long."""
        direct = str(self.path / "control.sock")
        if len(direct.encode()) < _UNIX_PATH_MAX:
            return direct
        return f"/proc/self/fd/{os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)}/control.sock"

    def runtime(self) -> Runtime:
        """What runs here. Raises `Failure` when nothing does."""
        found = read(self.runtime_file, Runtime) if self.is_running() else None
        if found is None:
            raise Failure(
                f"nothing is running in {self.path}",
                "start it with `automata up`, or name its directory with --data-dir",
            )
        return found


def write(path: Path, content: object, *, durable: bool = True) -> None:
    """Write JSON so that a reader sees the old or the new, never a part; mode 0600."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file at once; mode 0600. `durable`: it outlives a power failure. Raises `OSError`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise


def read(path: Path, kind: type[T]) -> T | None:
    """None where the file is missing. Raises `Failure` where it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Failure(
            f"{path} cannot be read: {type(error).__name__}", "restore it or choose another --data-dir"
        ) from None
