"""`automata app`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from libs import rpc
from libs.bus import Bus
from libs.ids import new_id
from services.cli.app_credentials import credentials
from services.cli.inside import CALL_SECONDS, actor, ask, call
from services.cli.options import confirm, data_dir_option, json_option, yes_option
from services.cli.tables import show, utc

PAGE = 500
COLUMNS = ("id", "name", "tier", "identity", "settings", "created (UTC)")
EXAMPLES = """\b
Examples:
  automata app create "Shop" --tier premium
  automata app create "Shop" --identity-key public.pem --identity-required
  automata app list
  automata app update 0199… --tier enterprise --setting receipt_timeout_hours=48
  automata app update 0199… --setting timezone=Asia/Seoul --setting 'rates={"apns": 500, "fcm": 2000}'
  automata app update 0199… --setting 'quiet_hours={"start": "21:30", "end": "08:00", "action": "hold"}'
  automata app update 0199… --setting 'frequency_caps=[{"limit": 2, "per": "day", "category": "ad"}]'
  automata app update 0199… --setting quiet_hours=null
  automata app credentials set apns AuthKey_KEY1234567.p8 --team-id TEAM123456 --topic com.example.shop
  automata app credentials set fcm service-account.json

\b
In a cluster: NATS_URL=nats://… automata app list
"""

tier_choice = click.Choice(["default", "premium", "enterprise", "unlimited"])
tier_help = "Requests a minute: 300, 1,000, 5,000, or any number."
setting_option = click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting; VALUE is JSON, else text. null takes it away. Several times for several. What decides about "
    "sending: timezone, quiet_hours, frequency_caps, rates, receipt_timeout_hours.",
)
identity_key_option = click.option(
    "--identity-key",
    type=click.File("r"),
    metavar="FILE",
    help="Public key in PEM (P-256, RSA or Ed25519) of the back end that vouches for its users.",
)


@click.group(epilog=EXAMPLES)
def app() -> None:
    """Applications: each has keys, subscriptions, messages and limits of its own, and sees nothing of the others."""


app.add_command(credentials)


@app.command(epilog=EXAMPLES)
@click.argument("name")
@click.option("--id", "application_id", metavar="UUID", help="Its id; one that exists already is left as it is.")
@click.option("--tier", type=tier_choice, default="default", show_default=True, help=tier_help)
@setting_option
@identity_key_option
@click.option("--identity-required", is_flag=True, help="Apps may identify users only with the back end's signature.")
@data_dir_option
@json_option
def create(
    name: str,
    application_id: str | None,
    tier: rpc.Tier,
    settings: tuple[str, ...],
    identity_key: Any,
    identity_required: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Create the application NAME and print its id. `automata key create` gives it its first key."""
    request = rpc.CreateApplication(
        application_id=application_id or new_id(),
        name=name,
        tier=tier,
        settings=_settings(settings),
        actor=actor(),
        identity_public_key=identity_key.read() if identity_key else None,
        identity_required=identity_required,
    )

    made = call(data_dir, "create_application", request, rpc.ApplicationCreated)
    click.echo(msgspec.json.encode(made) if as_json else f"created: {made.application_id}")


@app.command(name="list", epilog=EXAMPLES)
@data_dir_option
@json_option
def list_applications(data_dir: Path, as_json: bool) -> None:
    """List all applications."""
    found = ask(data_dir, _all)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        show(COLUMNS, map(_row, found))


@app.command(epilog=EXAMPLES)
@click.argument("application_id")
@click.option("--name", help="What it is called.")
@click.option("--tier", type=tier_choice, help=tier_help)
@setting_option
@identity_key_option
@click.option("--no-identity-key", is_flag=True, help="Take the public key away.")
@click.option(
    "--identity-required/--identity-not-required",
    default=None,
    help="Whether apps may identify users only with the back end's signature.",
)
@yes_option
@data_dir_option
@json_option
def update(
    application_id: str,
    name: str | None,
    tier: rpc.Tier | None,
    settings: tuple[str, ...],
    identity_key: Any,
    no_identity_key: bool,
    identity_required: bool | None,
    yes: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Change the application APPLICATION_ID; what is not named stays. Gateways follow within 5 seconds."""
    if identity_key and no_identity_key:
        raise click.UsageError("--identity-key and --no-identity-key exclude each other")
    pem = identity_key.read() if identity_key else "" if no_identity_key else None
    request = rpc.UpdateApplication(
        application_id, actor(), name, tier, _settings(settings) or None, pem, identity_required
    )
    if pem is not None or identity_required:
        confirm("Apps whose users are vouched for otherwise cannot identify them any more. Change it?", yes)

    changed = call(data_dir, "update_application", request, rpc.ApplicationView)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(changed)))
    else:
        show(COLUMNS, [_row(changed)])


async def _all(bus: Bus) -> list[rpc.ApplicationView]:
    found: list[rpc.ApplicationView] = []
    while True:
        question = rpc.ListApplications(found[-1].id if found else None, PAGE)
        page = await bus.call("application", "list_applications", question, rpc.Applications, CALL_SECONDS)
        found += page.applications
        if len(page.applications) < PAGE:
            return found


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Raises `UsageError`."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--setting wants NAME=VALUE, not {pair!r}")
        try:
            found[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name] = text
    return found


def _row(each: rpc.ApplicationView) -> tuple[str, ...]:
    identity = "required" if each.identity_required else "offered" if each.has_identity_key else ""
    settings = msgspec.json.encode(each.settings).decode() if each.settings else ""
    return (each.id, each.name, each.tier, identity, settings, utc(each.created_at_ms))
