"""A backup as it lies on disk: what is in it, how Postgres is copied into it, checked, and unpacked again.

DIR/backup.json      what it is, and when it was taken
DIR/secrets/         key ring, passwords, provider credentials of the demonstration: who has them reads everything
DIR/postgres/        pg_basebackup: base.tar.gz, pg_wal.tar.gz and backup_manifest with a checksum of each file

Everything in it is 0600 in directories of 0700.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from libs.rpc import ErasureRecord
from services.cli import datadir
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.vault import POSTGRES_OWNER
from services.cli.wheels import postgres_account, postgres_bin

FORMAT = 1
_MADE_AT_START = ("nats_url", "database_url_", "initdb", ".")
"""Files of `secrets/` that a start writes anew, and drafts."""


class Position(msgspec.Struct, frozen=True):
    """A place in the log."""

    epoch: int
    txid: str
    position: int


class Manifest(msgspec.Struct, frozen=True):
    """backup.json."""

    format: int
    version: str
    """Of Automata Signal."""
    postgres: str
    """Version of the server; the same major version is needed to restore."""
    started_at: datetime
    taken_at: datetime
    """Postgres' clock: what was committed before `started_at` is in it, what was committed after `taken_at` is not."""
    epoch: int
    readers_at: Position | None = None
    """The oldest event that a durable reader of EVENTS had not acknowledged at `started_at`; where they had read all,
    the last one that was published."""


class Erasures(msgspec.Struct, frozen=True):
    """What `automata backup --erasures-only` writes: ids only, nothing personal."""

    taken_at: datetime
    records: list[ErasureRecord]


def read_manifest(backup: Path) -> Manifest:
    """Raises `Failure` for what is no backup of ours."""
    found = datadir.read(backup / "backup.json", Manifest)
    if found is None:
        raise Failure(f"{backup} is not a backup", "name the directory that `automata backup` made")
    if found.format != FORMAT:
        raise Failure(f"{backup} has format {found.format}, known here is {FORMAT}", "use a newer version of automata")
    return found


def copy_postgres(port: int, password: str, target: Path) -> None:
    """A base backup of the running server: consistent as of its end, with the WAL it needs. Raises `Failure`."""
    target.mkdir(mode=0o700)
    passfile = target / "pgpass"
    datadir.write_bytes(passfile, f"127.0.0.1:{port}:*:{POSTGRES_OWNER}:{password}\n".encode())
    where = ("-h", "127.0.0.1", "-p", str(port), "-U", POSTGRES_OWNER, "--no-password")
    how = ("-D", str(target / "copy"), "--format=tar", "--gzip", "--compress=1", "--checkpoint=fast")
    try:
        _run(
            ("pg_basebackup", *where, *how, "--wal-method=stream"),
            {"PGPASSFILE": str(passfile)},
            "the database could not be copied",
            "start the installation again once, if it is from before backups; check the free space",
        )
    finally:
        passfile.unlink()
    for file in (target / "copy").iterdir():
        file.rename(target / file.name)
    (target / "copy").rmdir()


def check_postgres(backup: Path) -> None:
    """Every file against its checksum. Raises `Failure` for a backup that was damaged or is not whole."""
    _run(
        ("pg_verifybackup", "--format=tar", "--no-parse-wal", "--exit-on-error", "--quiet", str(backup / "postgres")),
        {},
        f"the backup {backup} is damaged",
        "take another one",
    )


def unpack_postgres(backup: Path, data: DataDir) -> None:
    """The cluster as it was, owned by whom Postgres runs as."""
    account = postgres_account(data.postgres)
    _extract(backup / "postgres" / "base.tar.gz", data.postgres)
    _extract(backup / "postgres" / "pg_wal.tar.gz", data.postgres / "pg_wal")
    for path in (data.postgres, *data.postgres.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if account is not None:
            os.chown(path, account.uid, account.gid)


def _extract(archive: Path, into: Path) -> None:
    into.mkdir(mode=0o700, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")  # nothing outside of `into`, no devices, no owners


def copy_secrets(source: Path, target: Path) -> None:
    """All but those that each start makes anew."""
    target.mkdir(mode=0o700, exist_ok=True)
    for file in sorted(source.iterdir()):
        if not file.name.startswith(_MADE_AT_START):
            datadir.write_bytes(target / file.name, file.read_bytes())


def postgres_version() -> str:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(postgres_bin() / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.split()[-1]


def size_of(directory: Path) -> int:
    """Bytes."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _run(command: Sequence[str], environment: dict[str, str], message: str, hint: str) -> None:
    argv = [str(postgres_bin() / command[0]), *command[1:]]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(argv, env=clean | environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Failure(message, hint, done.stderr)
