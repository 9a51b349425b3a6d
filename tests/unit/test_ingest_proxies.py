"""X-Forwarded-For is believed as far as our own proxies wrote it; wrong settings of the gateway name themselves."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from libs.config import SettingsError, load
from services.ingest.cors import origins_of
from services.ingest.proxies import Proxies, networks_of
from services.ingest.settings import Settings

OURS = "10.0.0.0/8, fd00::/8 192.0.2.7"


def seen(peer: str, forwarded: Sequence[str], trusted: str = OURS) -> str | None:
    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (peer, 1234) if name == "peername" else default

    headers = CIMultiDict([("X-Forwarded-For", each) for each in forwarded])
    request = make_mocked_request("GET", "/", headers=headers, transport=Transport())
    return Proxies(networks_of(trusted)).address_of(request)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["6.6.6.6"], "203.0.113.5"),
        ("10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["6.6.6.6", "203.0.113.5, 10.2.2.2", "192.0.2.7"], "203.0.113.5"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5, nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["unknown, 10.2.2.2"], "10.2.2.2"),
        ("::ffff:10.1.1.1", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::1%eth0", ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("", ["203.0.113.5"], None),
    ],
)
def test_nearest_that_is_no_proxy_of_ours(peer: str, forwarded: list[str], address: str | None) -> None:
    assert seen(peer, forwarded) == address


def test_nobody_is_believed_by_default() -> None:
    assert seen("127.0.0.1", ["6.6.6.6"], "") == "127.0.0.1"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTOMATA_HTTP__TRUSTED_PROXIES", "10.0.0.0/33"),
        ("AUTOMATA_HTTP__TRUSTED_PROXIES", "10.0.0.1/8"),
        ("AUTOMATA_HTTP__TRUSTED_PROXIES", "proxy.internal"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "app.example.com"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "https://app.example.com/"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "https://app.example.com/path"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "HTTPS://app.example.com"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "https://app.example.com:443"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "null"),
        ("AUTOMATA_HTTP__CORS_ORIGINS", "https://*.example.com"),
    ],
)
def test_setting_that_cannot_be_understood_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        load(Settings, {variable: value})


@pytest.mark.parametrize(("given", "missing"), [("CERT", "KEY"), ("KEY", "CERT")])
def test_certificate_and_key_go_together(given: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"AUTOMATA_HTTP__TLS_{missing}_FILE"):
        load(Settings, {f"AUTOMATA_HTTP__TLS_{given}_FILE": "/x.pem"})


def test_origins_may_have_ports_and_schemes_of_apps() -> None:
    text = "https://a.example:8443,http://localhost:3000  capacitor://localhost *"
    assert origins_of(text) == {"https://a.example:8443", "http://localhost:3000", "capacitor://localhost", "*"}
