"""The Markdown pages: subjects and streams with the rpc verbs, who may call what, and the settings of every service."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from libs.config import ALIASES, PREFIX
from libs.contract.notes import field_notes
from libs.contract.operations import EVERY_SCOPE, Operation, identifiers
from libs.contract.streams import CHANNELS, streams_of
from libs.contract.verbs import Verb
from libs.subjects import DAY, STREAMS, Stream

WRITTEN = "<!-- Written by `make generate` from the code: change that. -->"
RPC = """\
`signal.rpc.<service>.<verb>`, msgpack, over NATS services. A failed call is answered with the header `Signal-Fault` and
a `Fault`; its code is an error code of the REST API. Any call may end with `service_unavailable`, `invalid_request` or
`internal_server_error`."""
SCOPES = """\
A key may call an operation if it has one of the scopes marked in its row; else it is answered 403 `permission_denied`.
With `client` alone a key proves nothing: beyond registering a subscription it reaches only the one whose secret the
request carries."""
ENVIRONMENT = """\
Environment variables. Each may instead be given as `…_FILE`, the path of a file that holds the value: use that for
secrets. A value that cannot be used stops the process with exit code 2 and names its variable."""


def subjects_page(verbs: Sequence[Verb]) -> str:
    """Every subject there is, and who is at each end."""
    return "\n".join(
        [
            "# Subjects and streams",
            "",
            WRITTEN,
            "",
            *_streams_table(),
            "",
            *_channels_table(),
            "",
            "## Request and reply",
            "",
            RPC,
            "",
            *_verbs_table(verbs),
            "",
        ]
    )


def _streams_table() -> list[str]:
    rows = [
        (_code(stream.name), " ".join(_code(subject) for subject in stream.subjects), _kept(stream), stream.purpose)
        for stream in STREAMS
    ]
    return _table(("stream", "subjects", "kept", "holds"), rows)


def _kept(stream: Stream) -> str:
    if stream.retention == "work_queue":
        return "until acknowledged; a full stream refuses the new"
    return f"{stream.max_age / DAY:g} days" if stream.max_age is not None else "within its limit of bytes"


def _channels_table() -> list[str]:
    rows = [
        (
            _code(channel.address),
            f"`{channel.message.__name__}`, {channel.content_type.removeprefix('application/')}",
            ", ".join(channel.writers),
            ", ".join(channel.readers) + (", subscribers" if streams_of(channel)[0].retention == "limits" else ""),
        )
        for channel in CHANNELS
    ]
    cleaned = [(*row[:3], row[3].removeprefix(", ")) for row in rows]
    return _table(("subject", "payload", "published by", "read by"), cleaned)


def _verbs_table(verbs: Sequence[Verb]) -> list[str]:
    rows = [
        (
            _code(f"signal.rpc.{verb.service}.{verb.name}"),
            _code(verb.request.__name__),
            _code(verb.reply.__name__),
            " ".join(_code(code) for code in verb.errors),
        )
        for verb in verbs
    ]
    return _table(("subject", "request", "reply", "errors of its own"), rows)


def scopes_page(operations: Sequence[Operation]) -> str:
    """Which scope may call which operation."""
    rows = [
        (
            _code(f"{operation.method} {operation.path}"),
            _code(name),
            *("yes" if scope in operation.scopes else "" for scope in EVERY_SCOPE),
        )
        for name, operation in zip(identifiers(operations), operations, strict=True)
    ]
    table = _table(("operation", "id", *map(_code, EVERY_SCOPE)), rows)
    return "\n".join(["# Scopes", "", WRITTEN, "", SCOPES, "", *table, ""])


def settings_page(settings: Mapping[str, type[msgspec.Struct]]) -> str:
    """Every environment variable, by section; each service's name to its settings struct."""
    sections: dict[tuple[str, type[msgspec.Struct]], list[str]] = {}
    for service, kind in settings.items():
        for section, piece in get_type_hints(kind).items():
            sections.setdefault((section, piece), []).append(service)
    lines = [
        "# Settings",
        "",
        WRITTEN,
        "",
        ENVIRONMENT,
    ]
    for (section, piece), services in sections.items():
        lines += ["", f"## {section}: {', '.join(services)}", "", *_settings_table(section, piece)]
    return "\n".join([*lines, ""])


def _settings_table(section: str, piece: type[msgspec.Struct]) -> list[str]:
    notes = field_notes(piece)
    types_ = get_type_hints(piece)
    rows = []
    for field in msgspec.structs.fields(piece):
        name = f"{PREFIX}{section}__{field.name}".upper()
        rows.append(
            (_code(ALIASES.get(name, name)), _type_text(types_[field.name]), _default(field), notes.get(field.name, ""))
        )
    return _table(("variable", "type", "default", "meaning"), rows)


def _type_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(_code(str(value)) for value in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_text(part) for part in get_args(kind) if part is not type(None))
    names = {str: "text", int: "integer", float: "number", bool: "`true` or `false`"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default is None or field.default == "":
        return "none"
    if isinstance(field.default, bool):
        return _code(str(field.default).lower())
    return _code(f"{field.default}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in escaped)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text}`"
