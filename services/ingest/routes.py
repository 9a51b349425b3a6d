"""The route table, and the HTTP application made from it."""

from collections import defaultdict

from aiohttp import hdrs, web

from libs.service import Runtime, health_routes
from services.ingest import messages, receipts, subscriptions
from services.ingest.endpoint import Budget, Endpoint, WrongMethod, no_such_path, with_request_id
from services.ingest.exchange import Gateway, Route
from services.ingest.settings import GatewayHttp

PREFIX = "/api/v1"

ROUTES: tuple[Route, ...] = (
    *subscriptions.ROUTES,
    *messages.ROUTES,
    *receipts.ROUTES,
)
"""Each resource's routes stand at the end of its own file."""


def application(gateway: Gateway, settings: GatewayHttp, runtime: Runtime) -> web.Application:
    # The endpoints bound the bodies themselves, each route's as small as it can be.
    app = web.Application(client_max_size=0)
    for health in health_routes(runtime):
        app.router.add_get(health.path, with_request_id(health.handler))
    budgets = {
        "single": Budget(settings.max_in_flight),
        "batch": Budget(settings.max_batches),
        "stream": Budget(settings.max_streams),
    }
    methods: dict[str, list[str]] = defaultdict(list)
    for route in ROUTES:
        methods[route.path].append(route.method)
        endpoint = Endpoint(gateway, route, settings, budgets[route.size])
        app.router.add_route(route.method, PREFIX + route.path, endpoint.answer)
    for path, allowed in methods.items():
        app.router.add_route(hdrs.METH_ANY, PREFIX + path, WrongMethod(allowed).answer)
    app.router.add_route(hdrs.METH_ANY, "/{path:.*}", no_such_path)
    return app
