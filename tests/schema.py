"""`deploy/sql/schema.sql`, the whole schema in one file: what the migrations come to. `--check` says if it is current.

Written with pg_dump of the embedded PostgreSQL; weekly partitions, which come and go, are left out.
"""

import asyncio
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from services.cli.wheels import postgres_bin
from tests import databases
from tests.servers import PostgresServer

SCHEMA = Path(__file__).parent.parent / "deploy" / "sql" / "schema.sql"
WEEKLY = "lifecycle.message*_2*w*"
HEAD = """\
-- The whole schema: what the numbered files beside this one come to. Written by `make generate`; change a migration.
-- Roles, passwords and the rows that migrations insert are not in it, nor are the weekly partitions.

"""
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)\n", re.MULTILINE)


def dump(dsn: str) -> str:
    """The schema of a migrated database as SQL, without what differs from run to run."""
    command = [str(postgres_bin() / "pg_dump"), "--schema-only", "--no-owner", "--no-tablespaces"]
    command += ["--exclude-table", WEEKLY, "--exclude-table", "public.schema_migrations", "--dbname", dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return HEAD + re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", text)).strip() + "\n"


def current() -> str:
    """From a server of its own, so that the text does not depend on which one the tests were given."""
    folder = Path(tempfile.mkdtemp(prefix="automata-schema-"))
    server = PostgresServer(folder)
    server.run()
    try:
        template = asyncio.run(databases.create_template(server.dsn))
        return dump(databases.renamed(server.dsn, template))
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> None:
    wanted = current()
    if arguments != ["--check"]:
        SCHEMA.write_text(wanted)
        return
    found = SCHEMA.read_text() if SCHEMA.exists() else ""
    if found != wanted:
        lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), "schema.sql", "migrations", lineterm="")
        sys.exit("deploy/sql/schema.sql is not current (make generate):\n" + "\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
