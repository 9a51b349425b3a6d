"""Fresh secrets for docker-compose.yml, as the text of an `.env` file: `make compose-env` writes it, once, mode 0600.

Each value is one line; what is a URL names the hosts of the compose file.
"""

import json
import secrets
import sys

from libs import seal
from services.sandbox import credentials

ROLES = ("application", "subscription", "templating", "lifecycle")
PROVIDERS_URL = "https://sandbox:8443"


def new_env() -> dict[str, str]:
    """Every variable that docker-compose.yml reads a secret from."""
    owner, nats = _password(), _password()
    found = {
        "POSTGRES_PASSWORD": owner,
        "OWNER_DATABASE_URL": _dsn("automata", owner),
        "NATS_PASSWORD": nats,
        "NATS_STORE_KEY": _password(),
        "NATS_URL": f"nats://automata:{nats}@nats:4222",
        "KEY_RING": seal.new_ring().decode(),
    }
    for role in ROLES:
        password = _password()
        found[f"{role.upper()}_PASSWORD"] = password
        found[f"{role.upper()}_DATABASE_URL"] = _dsn(f"automata_{role}", password)
    return found | _demonstration()


def _password() -> str:
    """192 bits. The letter in front keeps NATS from reading digits as a number."""
    return f"k{secrets.token_hex(24)}"


def _dsn(user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@postgres:5432/automata"


def _demonstration() -> dict[str, str]:
    """Provider credentials of the demonstration application, and what the sandbox knows of them."""
    apns, apns_tenant = credentials.make_apns_credential("DEMO123456", "com.example.demo")
    fcm, fcm_tenant = credentials.make_fcm_credential("automata-demo", f"{PROVIDERS_URL}/token")
    return {
        "DEMO_CREDENTIALS": json.dumps({"apns": apns, "fcm": fcm}),
        "SANDBOX_TENANTS": json.dumps({"apns": [apns_tenant], "fcm": [fcm_tenant]}),
    }


def lines(values: dict[str, str]) -> str:
    """Single quotes: nothing inside is expanded."""
    return "".join(f"{name}='{' '.join(value.split())}'\n" for name, value in values.items())


if __name__ == "__main__":
    sys.stdout.write(lines(new_env()))
