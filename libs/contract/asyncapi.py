"""AsyncAPI 3 of everything on the streams."""

from typing import Any

import msgspec

from libs.contract import schemas
from libs.contract.notes import summary
from libs.contract.streams import CHANNELS, Channel, streams_of

PARAMETERS = {
    "lane": {"description": "Urgency; each lane has streams of its own.", "enum": ["critical", "normal", "bulk"]},
    "channel": {"description": "Kind of sender: apns, fcm, …"},
    "region": {"description": "Where the sender runs."},
    "application_id": {"description": "UUID of the application that the facts belong to."},
    "stream": {"description": "Name of the stream on which the trouble lay."},
}
_SCHEMAS = "#/components/schemas/{name}"


def document(version: str) -> dict[str, Any]:
    """The platform's view: it sends on a channel what the channel's writers publish."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Automata Signal: streams",
            "version": version,
            "description": "EVENTS, ALERTS and DEAD are for subscribers; other streams carry work between services. "
            "Delivery is at least once: (message_id, kind, attempt, key) identifies an event.",
            "license": {"name": "Apache-2.0"},
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {name: operation for channel in CHANNELS for name, operation in _operations(channel)},
        "components": {
            "messages": {channel.message.__name__: _message(channel) for channel in CHANNELS},
            "schemas": _draft_7(schemas.definitions([channel.message for channel in CHANNELS], _SCHEMAS)),
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    names = ", ".join(stream.name for stream in streams_of(channel))
    variables = [part[1:-1] for part in channel.address.split(".") if part.startswith("{")]
    message = channel.message.__name__
    return {
        "address": channel.address,
        "description": f"JetStream: {names}. {streams_of(channel)[0].purpose.capitalize()}.",
        "parameters": {name: PARAMETERS[name] for name in variables},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operations(channel: Channel) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for action, services in (("send", channel.writers), ("receive", channel.readers)):
        if services:
            operation = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "summary": f"{'Published' if action == 'send' else 'Read'} by {', '.join(services)}.",
                "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.message.__name__}"}],
            }
            found.append((f"{action}_{channel.name}", operation))
    return found


def _message(channel: Channel) -> dict[str, Any]:
    kind = channel.message
    found: dict[str, Any] = {
        "name": kind.__name__,
        "summary": summary(kind) or f"A batch of up to 500, and what they share; see {kind.__module__}.",
        "contentType": channel.content_type,
        "payload": {"$ref": _SCHEMAS.format(name=kind.__name__)},
        "examples": [{"name": channel.name, "payload": _as_json(channel.example)}],
    }
    if channel.name == "events":
        kinds = {"type": "string", "description": "The kinds in the batch, each once, comma separated."}
        found["headers"] = {"type": "object", "properties": {"Kinds": kinds}}
    return found


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _draft_7(schema: Any) -> Any:
    """AsyncAPI's schemas are draft 7, where a tuple is an `items` list."""
    if isinstance(schema, list):
        return [_draft_7(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {"items" if name == "prefixItems" else name: _draft_7(value) for name, value in schema.items()}
