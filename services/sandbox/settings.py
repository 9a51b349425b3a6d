"""Settings of the sandbox, all from `AUTOMATA_SANDBOX__<KEY>`."""

from typing import Annotated

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class Sandbox(Struct, frozen=True):
    tenants_file: str
    """JSON: whose credentials are known (`services.sandbox.tenants`). Re-read when it changes."""
    data_dir: str
    """Directory of mode 0700 for `ca.pem`, `cert.pem`, `key.pem` and the key of the access tokens."""
    host: str = "127.0.0.1"
    port: Port = 8080
    """Control API and page, plain HTTP."""
    tls_port: Port = 8443
    """APNs, FCM and OAuth, HTTP/2 over TLS."""
    certificate_hosts: str = "127.0.0.1,localhost"
    """Names and addresses the certificate is good for, with commas between."""
    max_deliveries: Positive = 50_000
    """Accepted requests whose text is kept; the oldest go first."""
    max_delivery_bytes: Positive = 48 * 1024**2
    """Bytes of text kept for them."""
    max_known_ids: Positive = 1_300_000
    """Message ids remembered, to tell what was accepted twice: 14 to 27 bytes each, taken as they come."""
    max_ledger_bytes: Positive = 1024**3
    """Disk the ledger may take, in an unnamed file under `data_dir`."""
    max_streams: Positive = 1000
    """Concurrent HTTP/2 streams a connection may open."""
    max_hung: Positive = 10_000
    """Requests held without an answer at one time; beyond that the connection is cut."""
    parent_pid: Annotated[int, Meta(ge=0)] = 0
    """Stop when this process is no longer our parent; 0: never."""


class Settings(Struct, frozen=True):
    sandbox: Sandbox
