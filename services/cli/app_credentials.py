"""`automata app credentials`: the keys with which an application's messages go to Apple and Google."""

import re
from pathlib import Path
from typing import Any

import click
import msgspec

from libs import rpc
from services.cli.inside import actor, application_of, application_option, call
from services.cli.options import confirm, data_dir_option, json_option, yes_option
from services.cli.tables import show, utc

EXAMPLES = """\b
Examples:
  automata app credentials set apns AuthKey_KEY1234567.p8 --team-id TEAM123456 --topic com.example.shop
  automata app credentials set fcm service-account.json
  automata app credentials list
  automata app credentials delete fcm
"""

provider_argument = click.argument("provider", type=click.Choice(["apns", "fcm"]))
_APPLES_FILE_NAME = re.compile(r"AuthKey_([A-Z0-9]{10})\.p8")


@click.group(epilog=EXAMPLES)
def credentials() -> None:
    """Provider credentials: set, named, deleted; kept encrypted, and never shown again."""


@credentials.command(name="set", epilog=EXAMPLES)
@provider_argument
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--team-id", help="apns: the developer team.")
@click.option("--key-id", help="apns: the key. Default: as Apple named FILE, AuthKey_<key id>.p8.")
@click.option("--topic", help="apns: bundle id of the app.")
@application_option
@data_dir_option
@json_option
def set_credential(
    provider: rpc.Provider,
    file: Path,
    team_id: str | None,
    key_id: str | None,
    topic: str | None,
    application: str | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Set the credential in FILE: Apple's .p8 key, or the JSON of Google's service account.

    It is checked before it is kept. Senders use it within half a minute.
    """
    if provider == "apns":
        secret = _apns(file, team_id, key_id, topic)
    elif team_id or key_id or topic:
        raise click.UsageError("--team-id, --key-id and --topic are for apns")
    else:
        secret = _service_account(file)
    request = rpc.SetCredential(application_of(application, data_dir), provider, secret, actor())

    info = call(data_dir, "set_credential", request, rpc.CredentialInfo)
    click.echo(msgspec.json.encode(info) if as_json else f"set: {info.provider}, version {info.version}")


@credentials.command(name="list", epilog=EXAMPLES)
@application_option
@data_dir_option
@json_option
def list_credentials(application: str | None, data_dir: Path, as_json: bool) -> None:
    """List which credentials are set, and since when."""
    question = rpc.ListCredentials(application_of(application, data_dir))

    found = call(data_dir, "list_credentials", question, rpc.Credentials).credentials
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        show(("provider", "version", "set at (UTC)"), map(_row, found))


@credentials.command(epilog=EXAMPLES)
@provider_argument
@yes_option
@application_option
@data_dir_option
@json_option
def delete(provider: rpc.Provider, yes: bool, application: str | None, data_dir: Path, as_json: bool) -> None:
    """Delete the credential for PROVIDER."""
    request = rpc.DeleteCredential(application_of(application, data_dir), provider, actor())
    confirm(f"Messages to {provider} will wait until another credential is set. Delete it?", yes)

    call(data_dir, "delete_credential", request, rpc.Empty)
    click.echo(msgspec.json.encode({"deleted": provider}) if as_json else f"deleted: {provider}")


def _row(info: rpc.CredentialInfo) -> tuple[str, ...]:
    return info.provider, str(info.version), utc(info.updated_at_ms)


def _apns(file: Path, team_id: str | None, key_id: str | None, topic: str | None) -> dict[str, Any]:
    """Raises `UsageError`."""
    named = _APPLES_FILE_NAME.fullmatch(file.name)
    key_id = key_id or (named[1] if named else None)
    given = {"--team-id": team_id, "--key-id": key_id, "--topic": topic}
    missing = [option for option, value in given.items() if not value]
    if missing:
        raise click.UsageError(f"apns also needs {', '.join(missing)}")
    return {"team_id": team_id, "key_id": key_id, "topic": topic, "private_key_pem": _text(file)}


def _service_account(file: Path) -> dict[str, Any]:
    """Raises `UsageError`."""
    try:
        return msgspec.json.decode(_text(file), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise click.UsageError(f"{file} is not the JSON of a service account") from None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{file} cannot be read as text") from None
