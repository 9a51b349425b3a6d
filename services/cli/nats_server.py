"""The embedded NATS server: its configuration file, 0600 because it holds the password and the store's key."""

import http.client
import os
import shutil
import signal
from functools import partial
from pathlib import Path

from services.cli.datadir import DataDir, write_bytes
from services.cli.probe import answer_of, answers_ok
from services.cli.process import Spec
from services.cli.vault import NATS_USER, Passwords
from services.cli.wheels import nats_server

_GIB = 1024**3
STREAMS = 16
"""There are 13, and room is left."""
ROOM = 64 * 1024**2
"""Bytes that must be free before it is worth to begin anew."""
_WRITE_ERROR = b"write error"

_CONFIGURATION = """\
server_name: automata
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: 8MB
max_pending: 128MB
authorization {{ user: "{user}", password: "{password}", timeout: 5 }}
jetstream {{
  store_dir: "{store}"
  # By default acknowledged messages reach the disk up to two minutes later.
  sync_interval: always
  max_memory_store: 256MB
  max_file_store: {file_store}
  cipher: aes
  key: "{key}"
}}
"""


def store_bytes(directory: Path) -> int:
    """The bound of JetStream's files: a quarter of the disk, the same at every start."""
    return min(max(shutil.disk_usage(directory).total // 4, 4 * _GIB), 128 * _GIB)


def stream_bytes(directory: Path) -> int:
    """The bound of one stream: JetStream reserves it whole when the stream is made."""
    return store_bytes(directory) // STREAMS


async def cannot_write(monitor: int, store: Path) -> bool:
    """True once there is room again after the disk was full: JetStream stays at its first failed write until it is
    restarted (nats-server 2.15: `/healthz` says "write error"). Before, a restart would not help."""
    status, text = await answer_of(f"http://127.0.0.1:{monitor}/healthz")
    return status == http.client.SERVICE_UNAVAILABLE and _WRITE_ERROR in text and _room(store) > ROOM


def _room(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def configure(data: DataDir, port: int, monitor: int, secrets: Passwords) -> None:
    """Write the configuration; at every start, so that nothing but the store is lost with the directory."""
    data.nats.mkdir(mode=0o700, exist_ok=True)
    text = _CONFIGURATION.format(
        port=port,
        monitor=monitor,
        user=NATS_USER,
        password=secrets.nats,
        store=str(data.nats / "store").replace("\\", "\\\\").replace('"', '\\"'),
        file_store=store_bytes(data.path),
        key=secrets.nats_store,
    )
    write_bytes(data.nats / "nats.conf", text.encode())


def spec(data: DataDir, port: int, monitor: int, secrets: Passwords) -> Spec:
    async def prepare() -> None:
        configure(data, port, monitor, secrets)

    async def ready() -> bool:
        return await answers_ok(f"http://127.0.0.1:{monitor}/healthz?js-enabled-only=true")

    return Spec(
        name="nats",
        argv=(str(nats_server()), "-c", str(data.nats / "nats.conf")),
        env=dict(os.environ),
        cwd=data.path,
        ready=ready,
        stop_signals=((signal.SIGTERM, 10.0),),
        damaged=partial(cannot_write, monitor, data.nats),
        death_signal=signal.SIGTERM,
        before_start=prepare,
    )
