"""Settings of the gateway, from environment variables (`libs.config`)."""

import msgspec

from libs.config import Health, Http, Nats


class GatewayHttp(Http, frozen=True):
    max_body_bytes: int = 5 * 1024 * 1024
    """Of a batch; a request for one thing may have 128 KiB."""
    max_in_flight: int = 512
    """Requests for one thing that are answered at the same time; beyond that 503."""
    max_batches: int = 32
    """Batch requests likewise: they have a budget of their own, so that they crowd out nobody."""
    max_streams: int = 4
    """Imports and exports under way at the same time."""
    body_timeout: float = 30.0
    """Seconds that a client has to send a body."""
    reuse_port: bool = False
    """Several gateway processes on one port."""


class Settings(msgspec.Struct, frozen=True):
    nats: Nats
    health: Health
    http: GatewayHttp
