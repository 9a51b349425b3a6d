"""A primary and a streaming standby that has all that was answered; what an operator does when the first is lost."""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import asyncpg

from services.cli import postgres
from services.cli.datadir import DataDir
from services.cli.process import Spec, launched
from services.cli.wheels import postgres_account, postgres_bin
from tests.faults.compose import ROOT

OWNER = "automata"
WAIT_FOR_STANDBY = ("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'", "SELECT pg_reload_conf()")
_FOR_TESTS = {"max_wal_size": "256MB", "min_wal_size": "32MB", "shared_buffers": "128MB"}
_STANDBY = {"wal_retrieve_retry_interval": "'500ms'"}
"""What `automata up` sets for a machine that is ours alone is too much here."""
_PROMOTION = re.compile(r"^```sql promotion\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Server:
    """One Postgres in a directory of its own."""

    def __init__(self, name: str, folder: Path, port: int, password: str) -> None:
        self.name = name
        self.port = port
        self.data = DataDir(folder)
        self.password = password
        self.dsn = f"postgresql://{OWNER}:{password}@127.0.0.1:{port}/automata"

    def spec(self) -> Spec:
        return replace(postgres.spec(self.data, self.port), name=self.name)

    def create(self) -> None:
        """An empty cluster. Raises `Failure`."""
        self.data.create()
        postgres.prepare(self.data, self.port, self.password)
        self.configure(_FOR_TESTS)

    def copy_from(self, primary: "Server") -> None:
        """`pg_basebackup`, and follow it from then on. What is there already goes, with whoever still works on it."""
        self.data.create()
        postgres.clear_orphans(self.data.postgres)
        shutil.rmtree(self.data.postgres, ignore_errors=True)
        account = postgres_account(primary.data.postgres)
        self.data.postgres.mkdir(mode=0o700)
        if account is not None:
            os.chown(self.data.postgres, account.uid, account.gid)
        connection = f"host=127.0.0.1 port={primary.port} user={OWNER} application_name={self.name}"
        program = str(postgres_bin() / "pg_basebackup")
        command = [program, "-D", str(self.data.postgres), "-R", "-X", "stream", "-c", "fast", "-d", connection]
        subprocess.run(
            launched(command, account, signal.SIGKILL),
            env={**os.environ, "PGPASSWORD": primary.password},
            cwd=self.data.postgres,
            check=True,
            capture_output=True,
            timeout=60,
        )
        self.configure({"port": str(self.port), **_STANDBY})

    def configure(self, settings: dict[str, str]) -> None:
        """Add to postgresql.conf; the last of a name holds."""
        with (self.data.postgres / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def check_for_damage(self) -> None:
        """`pg_amcheck`: every table and index is what it should be. Raises `CalledProcessError`."""
        program = str(postgres_bin() / "pg_amcheck")
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, "-d", "automata"]
        environment = {**os.environ, "PGPASSWORD": self.password}
        command = [program, *place, "--install-missing", "--heapallindexed"]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)

    async def execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn, timeout=5)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def fetchval(self, query: str) -> object:
        connection = await asyncpg.connect(self.dsn, timeout=5)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()


def promotion() -> list[str]:
    """The statements that docs/operations.md tells an operator to run on the standby."""
    found = _PROMOTION.search((ROOT / "docs/operations.md").read_text())
    assert found is not None
    lines = [line.partition("--")[0].strip() for line in found[1].splitlines()]
    return [statement.strip() for statement in " ".join(lines).split(";") if statement.strip()]
