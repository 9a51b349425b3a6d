"""The route table, and the HTTP application made from it."""

from collections import defaultdict
from collections.abc import Sequence

from aiohttp import hdrs, web

from libs.clock import Clock
from libs.service import Runtime, health_routes
from services.ingest import application as own_application
from services.ingest import (
    audit_log,
    breakers,
    consent,
    credentials,
    exports,
    imports,
    message_control,
    message_views,
    messages,
    rates,
    receipts,
    stops,
    subscriptions,
    tags,
    templates,
    users,
)
from services.ingest.audit import Audit
from services.ingest.budget import Budget
from services.ingest.callers import Callers
from services.ingest.conditional import Conditions
from services.ingest.cors import Cors, origins_of
from services.ingest.docs import Docs
from services.ingest.endpoint import Endpoint, Front
from services.ingest.exchange import Gateway, Route
from services.ingest.leaving import farewell
from services.ingest.proxies import Proxies, networks_of
from services.ingest.repeats import Repeats
from services.ingest.settings import GatewayHttp
from services.ingest.unrouted import WrongMethod, no_such_path, with_request_id

PREFIX = "/api/v1"

ROUTES: tuple[Route, ...] = (
    *subscriptions.ROUTES,
    *consent.ROUTES,
    *tags.ROUTES,
    *imports.ROUTES,
    *exports.ROUTES,
    *users.ROUTES,
    *messages.ROUTES,
    *message_views.ROUTES,
    *message_control.ROUTES,
    *receipts.ROUTES,
    *templates.ROUTES,
    *own_application.ROUTES,
    *credentials.ROUTES,
    *stops.ROUTES,
    *breakers.ROUTES,
    *rates.ROUTES,
    *audit_log.ROUTES,
)
"""Each resource's routes stand at the end of its own file."""


def application(
    gateway: Gateway, settings: GatewayHttp, runtime: Runtime, routes: Sequence[Route] = ROUTES
) -> web.Application:
    # The endpoints bound the bodies themselves, each route's as small as it can be.
    app = web.Application(client_max_size=0)
    app.on_response_prepare.append(farewell(runtime))
    cors = Cors(origins_of(settings.cors_origins))
    if cors:
        app.on_response_prepare.append(cors.on_prepare)
    for health in health_routes(runtime):
        app.router.add_get(health.path, with_request_id(health.handler))
    for path, handler in Docs(ROUTES, PREFIX).handlers():
        app.router.add_get(path, with_request_id(handler))
    _add_table(app, gateway, settings, runtime.clock, routes)
    for path, methods in _methods(routes).items():
        app.router.add_route(hdrs.METH_ANY, PREFIX + path, WrongMethod(methods, cors).answer)
    app.router.add_route(hdrs.METH_ANY, "/{path:.*}", no_such_path)
    return app


def runner_of(app: web.Application, settings: GatewayHttp, shutdown_timeout: float = 10.0) -> web.AppRunner:
    """The server around it, which leaves compressed bodies as they are: `services.ingest.compression` says why."""
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=shutdown_timeout,
        keepalive_timeout=settings.idle_timeout,  # aiohttp's own is an hour, also for a request that never gets whole
        auto_decompress=False,
    )


def _add_table(
    app: web.Application, gateway: Gateway, settings: GatewayHttp, clock: Clock, routes: Sequence[Route]
) -> None:
    budgets = {
        "single": Budget(settings.max_in_flight),
        "batch": Budget(settings.max_batches),
        "stream": Budget(settings.max_streams),
        "slow": Budget(settings.max_batches),
    }
    front = Front(
        callers=Callers(gateway.keys, gateway.bus, clock),
        repeats=Repeats(gateway.bus),
        audit=Audit(gateway.bus, Proxies(networks_of(settings.trusted_proxies))),
        conditions=Conditions(clock),
        clock=clock,
    )
    for route in routes:
        endpoint = Endpoint(gateway, front, route, settings, budgets[route.size])
        for method in _methods_of(route):
            app.router.add_route(method, PREFIX + route.path, endpoint.answer)


def _methods(routes: Sequence[Route]) -> dict[str, list[str]]:
    """By path, what its routes answer."""
    found: dict[str, list[str]] = defaultdict(list)
    for route in routes:
        found[route.path] += _methods_of(route)
    return found


def _methods_of(route: Route) -> list[str]:
    """What can be read can be asked for its headers alone (RFC 9110 §9.3.2)."""
    return [hdrs.METH_GET, hdrs.METH_HEAD] if route.method == hdrs.METH_GET else [route.method]
