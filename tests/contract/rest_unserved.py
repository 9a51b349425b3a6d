"""The gateway's HTTP application with nobody behind it."""

from typing import Any, cast

from aiohttp import web

from libs.service import Runtime
from services.ingest.exchange import Gateway
from services.ingest.routes import application
from services.ingest.settings import GatewayHttp


def unserved() -> web.Application:
    parts = Gateway._make(cast(Any, None) for _ in Gateway._fields)
    return application(parts, GatewayHttp(), Runtime("ingest"))
