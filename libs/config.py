"""Settings from environment variables: one frozen struct per service, composed of the pieces here.

`AUTOMATA_<SECTION>__<KEY>` fills field `key` of the nested struct in field `section`; `…_FILE` names a file that holds
the value, for secrets. `DATABASE_URL` and `NATS_URL` are understood as everybody writes them. A map is a JSON object,
or in short `KR=icn,DE=fra`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

PREFIX = "AUTOMATA_"
ALIASES = {"AUTOMATA_DATABASE__URL": "DATABASE_URL", "AUTOMATA_NATS__URL": "NATS_URL"}


class SettingsError(Exception):
    """A variable has no usable value; the text names the variable, never the value."""


class Nats(msgspec.Struct, frozen=True):
    url: str = "nats://127.0.0.1:4222"
    """Several servers of one cluster have commas between them."""
    replicas: int = 1
    """Copies of each stream: 3 in a cluster."""
    max_stream_bytes: int = 8 * 1024**3
    """Bound of each work-queue stream; a full one refuses the new."""
    ack_wait: float = 15.0
    """Seconds until an envelope whose holder is silent goes to another."""
    holds: str = ""
    """Directory that the processes of this machine share: what one that died held is given back when another starts,
    instead of after `ack_wait`. Empty: not so."""


class Database(msgspec.Struct, frozen=True):
    url: str
    """Several hosts, as in `postgresql://user:password@db1:5432,db2:5432/name`: the one that takes changes is used."""
    pool: int = 16
    """Connections of this process."""
    statement_timeout: float = 10.0
    """Seconds."""


class Health(msgspec.Struct, frozen=True):
    host: str = "127.0.0.1"
    port: int = 0
    """0: no health server of its own."""


class Http(msgspec.Struct, frozen=True):
    host: str = "127.0.0.1"
    port: int = 8080


class Keys(msgspec.Struct, frozen=True):
    ring_file: str
    """JSON file of the key ring (`libs.seal`)."""


class Retry(msgspec.Struct, frozen=True):
    scale: float = 1.0
    """Factor on every delay of the retry table: tests shorten it."""


def load(kind: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Read the settings struct `kind`. Raises `SettingsError` naming the variable that is wrong or missing."""
    values: dict[str, Any] = {}
    for section, piece in get_type_hints(kind).items():
        found = _section(section, piece, environment)
        try:
            values[section] = msgspec.convert(found, piece, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(_blame(section, str(error))) from None
    return kind(**values)


def _section(section: str, piece: type[msgspec.Struct], environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(piece):
        name = f"{PREFIX}{section}__{field.name}".upper()
        value = _value(name, environment)
        if value is not None:
            found[field.name] = _map(name, value) if get_origin(field.type) is dict else value
    return found


def _map(name: str, text: str) -> dict[str, Any]:
    """Raises `SettingsError`."""
    try:
        if text.lstrip().startswith("{"):
            return msgspec.json.decode(text, type=dict[str, Any])
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        found = {key.strip(): value.strip() for key, value in pairs}
        if len(found) != len(pairs):
            raise ValueError("a key comes twice")
    except (msgspec.MsgspecError, ValueError):
        raise SettingsError(f"{name}: Expected a JSON object, or `key=value,key=value`") from None
    return found


def _value(name: str, environment: Mapping[str, str]) -> str | None:
    for candidate in (name, ALIASES.get(name, name)):
        if candidate in environment:
            return environment[candidate]
        if f"{candidate}_FILE" in environment:
            try:
                return Path(environment[f"{candidate}_FILE"]).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{candidate}_FILE: cannot be read ({error.strerror})") from None
    return None


def _blame(section: str, text: str) -> str:
    """msgspec says `Expected `int` - at `$.port``, `… at `key` in `$.regions`` or `… missing required field `url``."""
    reason = text.partition(" - at `")[0]
    found = re.search(r"`\$\.(\w+)", text)
    field = found[1] if found else ""
    if not field and "missing required field" in reason:
        field, reason = reason.split("`")[-2], "is required"
    name = f"{PREFIX}{section}__{field}".upper()
    alias = ALIASES.get(name)
    return f"{alias or name}: {reason}"
