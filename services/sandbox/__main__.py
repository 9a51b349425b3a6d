"""`python -m services.sandbox`: APNs, FCM and OAuth on one TLS port, control API and page on another."""

import logging
import sys

import structlog
import uvloop

from libs.config import SettingsError, load
from services.sandbox.server import serve
from services.sandbox.settings import Settings
from services.sandbox.tenants import TenantsError

log = structlog.get_logger()


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with 1 when a setting, the tenants file or a port cannot be used."""
    _log_to_stderr()
    try:
        uvloop.run(serve(load(Settings).sandbox))
    except (SettingsError, TenantsError, OSError) as error:
        log.error("sandbox_cannot_run", error=str(error))
        sys.exit(1)


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
