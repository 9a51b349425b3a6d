"""TLS with the gateway's own certificate, for where no proxy stands in front of it."""

import ssl

from libs.config import SettingsError
from services.ingest.settings import GatewayHttp


def context_of(settings: GatewayHttp) -> ssl.SSLContext | None:
    """None where no certificate is set. Raises `SettingsError` if it cannot be used."""
    if not settings.tls_cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"AUTOMATA_HTTP__TLS_CERT_FILE, __TLS_KEY_FILE: cannot be used ({error})") from None
    return context
