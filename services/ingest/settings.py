"""Settings of the gateway, from environment variables (`libs.config`)."""

from collections.abc import Callable
from typing import Annotated

import msgspec

from libs.config import Health, Http, Nats
from services.ingest.cors import origins_of
from services.ingest.proxies import networks_of


class GatewayHttp(Http, frozen=True):
    max_body_bytes: int = 5 * 1024 * 1024
    """Of a batch, decompressed; a request for one thing may have 128 KiB."""
    max_in_flight: int = 512
    """Requests for one thing that are answered at the same time; beyond that 503."""
    max_batches: int = 32
    """Batch requests likewise: they have a budget of their own, so that they crowd out nobody. And so many that wait
    on purpose, such as for all senders to answer, at most half of them one application's."""
    max_streams: int = 4
    """Imports and exports under way at the same time."""
    body_timeout: float = 30.0
    """Seconds that a client has to send a body; to send or take the next piece of a stream."""
    idle_timeout: float = 75.0
    """Seconds that a connection may be without a request, or with half of one; longer than proxies keep theirs."""
    leave_after: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    """Seconds from SIGTERM, when `/readyz` turns to 503, to the closing of the port: as long as those who send requests
    here need to notice."""
    reuse_port: bool = False
    """Several gateway processes on one port."""
    cors_origins: str = ""
    """Origins whose web pages may call, such as `https://app.example.com`, apart by commas; `*` for all."""
    tls_cert_file: str = ""
    """PEM file with the certificate and its chain: the gateway then speaks HTTPS (TLS 1.2 or newer)."""
    tls_key_file: str = ""
    """PEM file with the certificate's private key."""
    trusted_proxies: str = ""
    """Networks of our own proxies, such as `10.0.0.0/8`, apart by commas: only they are believed `X-Forwarded-For`."""

    def __post_init__(self) -> None:
        _check("cors_origins", origins_of, self.cors_origins)
        _check("trusted_proxies", networks_of, self.trusted_proxies)
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise _wrong("tls_key_file" if self.tls_cert_file else "tls_cert_file", "is needed too")


def _check(field: str, parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise _wrong(field, str(error)) from None


def _wrong(field: str, reason: str) -> ValueError:
    """Worded as msgspec words its own, so that the variable is named."""
    return ValueError(f"{reason} - at `$.{field}`")


class Settings(msgspec.Struct, frozen=True):
    nats: Nats
    health: Health
    http: GatewayHttp
