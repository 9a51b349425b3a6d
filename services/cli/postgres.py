"""The embedded PostgreSQL: creating its cluster, its settings, and clearing up after a killed postmaster."""

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

from services.cli import procfs
from services.cli.datadir import DataDir, write_bytes
from services.cli.failure import Failure
from services.cli.process import Spec, launched
from services.cli.vault import DATABASE, POSTGRES_OWNER
from services.cli.wheels import Account, postgres_account, postgres_bin

_MIB = 1024 * 1024
_ORPHAN_GRACE = 3.0
"""Seconds that backends of a killed postmaster get to notice it."""

# Only loopback TCP with a password; the cluster is one user's, so local sockets are not opened at all.
# `replication` is what `automata backup` connects for; `all` leaves it out.
_HBA = f"""\
host all all 127.0.0.1/32 scram-sha-256
host replication {POSTGRES_OWNER} 127.0.0.1/32 scram-sha-256
"""


def settings(port: int, memory: int) -> dict[str, str]:
    """postgresql.conf for a machine with `memory` bytes that Postgres shares with everything else.

    Statements never reach the log (they carry role passwords and tenants' data), nor do the DETAIL lines of errors.
    """
    shared = min(max(memory // 16, 128 * _MIB), 1024 * _MIB) // _MIB
    return {
        "listen_addresses": "'127.0.0.1'",
        "port": str(port),
        "unix_socket_directories": "''",
        "max_connections": "100",
        "password_encryption": "'scram-sha-256'",
        "shared_buffers": f"{shared}MB",
        "effective_cache_size": f"{max(memory // 2 // _MIB, 256)}MB",
        "huge_pages": "try",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{min(max(memory // 32 // _MIB, 32), 256)}MB",
        "jit": "off",
        "random_page_cost": "1.1",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_buffers": "16MB",
        "max_wal_size": "4GB",
        "min_wal_size": "512MB",
        "checkpoint_completion_target": "0.9",
        "autovacuum_naptime": "5s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.5",
        "autovacuum_vacuum_cost_limit": "2000",
        "idle_in_transaction_session_timeout": "30s",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_lock_waits": "on",
    }


def prepare(data: DataDir, port: int, password: str) -> None:
    """Create the cluster if there is none, and write its settings. Raises `Failure`."""
    account = postgres_account(data.postgres)
    if not (data.postgres / "PG_VERSION").exists():
        _create(data, password, account)
    lines = [f"{name} = {value}" for name, value in settings(port, _memory()).items()]
    if _has_lz4():
        lines.append("wal_compression = lz4")
    _place(data.postgres / "postgresql.conf", "\n".join(lines) + "\n", account)
    _place(data.postgres / "pg_hba.conf", _HBA, account)


def spec(data: DataDir, port: int) -> Spec:
    """How the supervisor runs it: SIGINT is Postgres' fast shutdown, SIGQUIT its immediate one."""
    programs = postgres_bin()

    async def clear() -> None:
        await asyncio.to_thread(clear_orphans, data.postgres)

    async def ready() -> bool:
        return await asyncio.to_thread(_answers, programs / "pg_isready", port)

    return Spec(
        name="postgres",
        argv=(str(programs / "postgres"), "-D", str(data.postgres)),
        env=_environment(),
        cwd=data.postgres,
        ready=ready,
        stop_signals=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),
        death_signal=signal.SIGINT,
        account=postgres_account(data.postgres),
        before_start=clear,
    )


def clear_orphans(cluster: Path) -> None:
    """End what a killed postmaster left behind: backends hold its shared memory, its pid file names a dead process.

    Safe because the caller holds the data directory's lock: no other postmaster can be at work here.
    """
    for sign in (signal.SIGQUIT, signal.SIGKILL):
        orphans = procfs.working_in(cluster, "postgres")
        if not orphans:
            break
        procfs.send(orphans, sign)
        procfs.wait_gone(orphans, _ORPHAN_GRACE)
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _create(data: DataDir, password: str, account: Account | None) -> None:
    """initdb beside the final place, renamed when complete: an interrupted first start leaves nothing half made."""
    draft = data.path / "postgres.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    secret = data.secrets / "initdb"
    write_bytes(secret, password.encode() + b"\n")
    if account is not None:
        os.chown(draft, account.uid, account.gid)
        os.chown(secret, account.uid, account.gid)
    try:
        programs = postgres_bin()
        initdb = (str(programs / "initdb"), "-D", str(draft), "-U", POSTGRES_OWNER, f"--pwfile={secret}")
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        _run((*initdb, "--auth=scram-sha-256", *locale), draft, account)
        single = (str(programs / "postgres"), "--single", "-D", str(draft), "postgres")
        _run(single, draft, account, f"CREATE DATABASE {DATABASE}\n")
    finally:
        secret.unlink()
    shutil.rmtree(data.postgres, ignore_errors=True)
    draft.rename(data.postgres)


def _run(argv: tuple[str, ...], cwd: Path, account: Account | None, typed: str = "") -> None:
    command = launched(argv, account, signal.SIGKILL)
    done = subprocess.run(  # noqa: S603 - our own programs
        command, cwd=cwd, input=typed, env=_environment(), text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise Failure(
            "the Postgres cluster could not be created",
            "check free space and permissions of the data directory",
            done.stderr,
        )


def _environment() -> dict[str, str]:
    """Without the PG* variables of a machine that uses another Postgres."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _place(path: Path, content: str, account: Account | None) -> None:
    write_bytes(path, content.encode())
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _memory() -> int:
    """Bytes of this machine, or of the container it is confined to (cgroup v2)."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return physical


def _has_lz4() -> bool:
    command = [str(postgres_bin() / "pg_config"), "--configure"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return "--with-lz4" in done.stdout


def _answers(program: Path, port: int) -> bool:
    command = [str(program), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
    return subprocess.run(command, check=False, env=_environment()).returncode == 0  # noqa: S603
