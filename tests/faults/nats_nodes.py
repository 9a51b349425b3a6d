"""One to three NATS servers with JetStream, configured by deploy/nats/, and who of them leads what."""

import os
import re
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from services.cli.nats_server import cannot_write
from services.cli.probe import answers_ok
from services.cli.process import Spec
from services.cli.wheels import nats_server
from tests.faults.compose import ROOT

STORE_BYTES = 8 * 1024**3
"""What JetStream may reserve on each node: no more than a bound, little of it is used."""


class Node(msgspec.Struct, frozen=True):
    name: str
    store: Path
    port: int
    monitor: int
    cluster: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def spec(node: Node, nodes: list[Node], secrets: Mapping[str, str]) -> Spec:
    """`deploy/nats/cluster.conf` with the environment of one node; a single one is no cluster."""
    password = secrets["NATS_PASSWORD"]
    routes = [f"nats://automata:{password}@127.0.0.1:{each.cluster}" for each in nodes if each != node]
    environment = {
        "NATS_NAME": node.name,
        "NATS_LISTEN": f'"{node.address}"',
        "NATS_MONITOR": f'"127.0.0.1:{node.monitor}"',
        "NATS_CLUSTER": f'"127.0.0.1:{node.cluster}"',
        "NATS_ROUTES": msgspec.json.encode(routes).decode(),
        "NATS_STORE": f'"{node.store}"',
        "NATS_STORE_BYTES": str(STORE_BYTES),
        "NATS_PASSWORD": password,
        "NATS_STORE_KEY": secrets["NATS_STORE_KEY"],
    }

    async def ready() -> bool:
        return await answers_ok(f"http://127.0.0.1:{node.monitor}/healthz?js-enabled-only=true")

    return Spec(
        name=node.name,
        argv=(str(nats_server()), "-c", str(_configuration(node, len(nodes) > 1))),
        env={**os.environ, **environment},
        cwd=node.store.parent,
        ready=ready,
        stop_signals=((signal.SIGTERM, 10.0),),
        damaged=partial(cannot_write, node.monitor, node.store),
    )


def _configuration(node: Node, clustered: bool) -> Path:
    path = node.store.parent / "nats.conf"
    text = (ROOT / "deploy/nats/cluster.conf").read_text()
    path.write_text(text if clustered else re.sub(r"^cluster \{.*?^\}", "", text, flags=re.DOTALL | re.MULTILINE))
    return path


async def is_current(node: Node) -> bool:
    """True when it has caught up with all streams and consumers: the next one may fail."""
    return await answers_ok(f"http://127.0.0.1:{node.monitor}/healthz")


async def meta_leader(nodes: list[Node]) -> str | None:
    """The name of the node that decides where streams are, as any node that answers tells."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        for node in nodes:
            try:
                async with session.get(f"http://127.0.0.1:{node.monitor}/jsz") as response:
                    found: str | None = (await response.json()).get("meta_cluster", {}).get("leader")
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
            if found:
                return found
    return None
