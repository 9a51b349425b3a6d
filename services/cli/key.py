"""`automata key`."""

import time
from pathlib import Path

import click
import msgspec

from libs import rpc
from services.cli.duration import Duration
from services.cli.inside import actor, application_of, application_option, call
from services.cli.options import confirm, data_dir_option, json_option, yes_option
from services.cli.tables import or_never, show, utc

EXAMPLES = """\b
Examples:
  automata key create "back end" --scope send --scope read
  automata key create "back office" --scope manage --expires 90d > key.txt
  automata key create "iOS app" --scope client
  automata key list
  automata key rotate 0199…  --grace 24h
  automata key revoke 0199…

\b
In a cluster, name NATS and the application:
  NATS_URL=nats://… automata key list --application 0199…
"""

COLUMNS = ("id", "name", "hint", "scopes", "created (UTC)", "expires", "last used", "revoked")


@click.group(epilog=EXAMPLES)
def key() -> None:
    """API keys: what back ends and apps show with each request.

    Scopes: send (messages), read, manage (subscriptions, templates, credentials), client (alone, for keys that lie in
    apps). A key is printed once, alone on standard output; nobody can show it again.
    """


@key.command(epilog=EXAMPLES)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["send", "read", "manage", "client"]),
    multiple=True,
    required=True,
    help="What it may do; several times for several.",
)
@click.option("--expires", type=Duration(), metavar="TIME", help="After how long it stops working, such as 90d.")
@application_option
@data_dir_option
@json_option
def create(
    name: str, scopes: tuple[str, ...], expires: int | None, application: str | None, data_dir: Path, as_json: bool
) -> None:
    """Create a key called NAME and print it."""
    expires_at_ms = None if expires is None else int((time.time() + expires) * 1000)
    owner = application_of(application, data_dir)
    request = rpc.CreateKey(owner, name, list(scopes), expires_at_ms, actor())

    _show_once(call(data_dir, "create_key", request, rpc.KeyCreated), as_json)


@key.command(name="list", epilog=EXAMPLES)
@application_option
@data_dir_option
@json_option
def list_keys(application: str | None, data_dir: Path, as_json: bool) -> None:
    """List the keys, newest first. The hint is how a key begins, after its prefix."""
    question = rpc.ListKeys(application_of(application, data_dir))

    found = call(data_dir, "list_keys", question, rpc.ApiKeys).keys
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        show(COLUMNS, map(_row, found))


@key.command(epilog=EXAMPLES)
@click.argument("key_id")
@yes_option
@data_dir_option
@json_option
def revoke(key_id: str, yes: bool, data_dir: Path, as_json: bool) -> None:
    """End the key KEY_ID for good. It stops working everywhere within 5 seconds."""
    confirm(f"Whoever uses the key {key_id} is refused from now on. Revoke it?", yes)

    request = rpc.RevokeKey(key_id, actor())

    call(data_dir, "revoke_key", request, rpc.Empty)
    click.echo(msgspec.json.encode({"revoked": key_id}) if as_json else f"revoked: {key_id}")


@key.command(epilog=EXAMPLES)
@click.argument("key_id")
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the old key works on.",
)
@yes_option
@data_dir_option
@json_option
def rotate(key_id: str, grace: int, yes: bool, data_dir: Path, as_json: bool) -> None:
    """Print a new key with the name, scopes and length of life of KEY_ID, which itself ends after the grace."""
    if grace == 0:
        confirm(f"Without a grace, whoever uses the key {key_id} is refused from now on. Rotate it?", yes)
    request = rpc.RotateKey(key_id, grace, actor())

    _show_once(call(data_dir, "rotate_key", request, rpc.KeyCreated), as_json)


def _show_once(made: rpc.KeyCreated, as_json: bool) -> None:
    """The key alone on standard output, so that it can go into a file or a secret store unseen."""
    if as_json:
        click.echo(msgspec.json.encode(made))
    else:
        click.echo(f"key {made.key_id}; it is shown this once:", err=True)
        click.echo(made.api_key)


def _row(each: rpc.KeyView) -> tuple[str, ...]:
    life = utc(each.created_at_ms), or_never(each.expires_at_ms), or_never(each.last_used_at_ms)
    revoked = "" if each.revoked_at_ms is None else utc(each.revoked_at_ms)
    return (each.id, each.name, each.hint, " ".join(each.scopes), *life, revoked)
