"""The sandbox's two servers, from their settings to their end."""

import asyncio
import gc
import os
import random
import signal
import time
from pathlib import Path

import structlog
from aiohttp import web

from services.sandbox import wire
from services.sandbox.apns import Apns
from services.sandbox.apns_token import ProviderTokens
from services.sandbox.control import Control
from services.sandbox.credentials import make_tls
from services.sandbox.deliveries import Deliveries
from services.sandbox.endpoint import Endpoint
from services.sandbox.faults import Faults
from services.sandbox.fcm import Fcm
from services.sandbox.goaway import GoawayFront
from services.sandbox.ledger import Ledger
from services.sandbox.oauth import OAuth
from services.sandbox.providers import Providers
from services.sandbox.rsgi import GranianFront, HungRequests
from services.sandbox.settings import Sandbox
from services.sandbox.tenants import Tenants, TenantsError

log = structlog.get_logger()

WATCH_INTERVAL = 1.0
"""Seconds between looks at the tenants file and the parent process."""


async def serve(settings: Sandbox) -> None:
    data_dir = Path(settings.data_dir)
    tls = make_tls(data_dir, [host.strip() for host in settings.certificate_hosts.split(",")])
    tenants = Tenants(Path(settings.tenants_file))
    tenants.refresh()
    providers = _providers(settings, tenants, data_dir)
    hung = HungRequests(settings.max_hung)
    endpoint = Endpoint(
        settings.host,
        settings.tls_port,
        lambda: GranianFront(providers, settings, tls, hung),
        lambda: GoawayFront(providers, settings, tls, hung),
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    control = Control(providers.faults, providers.ledger, providers.deliveries, endpoint)
    runner = web.AppRunner(control.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        await endpoint.start()
        gc.freeze()
        gc.set_threshold(50_000, 20, 1_000)  # what a request leaves behind holds no cycles
        log.info("sandbox_ready", port=settings.port, tls_port=settings.tls_port)
        await _watch(settings.parent_pid, tenants, stop)
    finally:
        await endpoint.stop()
        await runner.cleanup()


def _providers(settings: Sandbox, tenants: Tenants, data_dir: Path) -> Providers:
    tokens = ProviderTokens(tenants, time.time, lambda peer: wire.socket_number(settings.tls_port, peer))
    oauth = OAuth(tenants, data_dir / "oauth.key", time.time)
    return Providers(
        (Apns(tenants, tokens, time.time), Fcm(oauth, time.time), oauth),
        Faults(random.random),
        Ledger(data_dir, settings.max_known_ids, settings.max_ledger_bytes),
        Deliveries(settings.max_deliveries, settings.max_delivery_bytes),
        time.time,
    )


async def _watch(parent_pid: int, tenants: Tenants, stop: asyncio.Event) -> None:
    """Return when told to stop, or when the parent is gone; follow the tenants file meanwhile."""
    while not stop.is_set() and parent_pid in (0, os.getppid()):
        try:
            if tenants.refresh():
                log.info("tenants_read", generation=tenants.generation)
        except TenantsError as error:
            log.error("tenants_refused", error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), WATCH_INTERVAL)
        except TimeoutError:
            continue
