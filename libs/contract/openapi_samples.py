"""An example of what a schema allows: the documentation shows one for each answer, made from the answer's struct."""

from collections.abc import Mapping
from typing import Any

from libs.contract.schemas import Schema

ID = "0199a1b2-0000-7000-8000-00000000000{}"
BY_NAME: dict[str, Any] = {
    "id": ID.format(1),
    "subscription_id": ID.format(2),
    "message_id": ID.format(3),
    "user_id": ID.format(4),
    "template_id": ID.format(5),
    "external_id": "user_123",
    "request_id": f"del-{ID.format(6)}",
    "actor": f"key:{ID.format(7)}",
    "type": "iOSPush",
    "channel": "apns",
    "provider": "apns",
    "name": "order_confirmation",
    "title": "Hello",
    "body": "It works.",
    "token_hint": "a5a5",
    "subscription_status": 1,
    "subscription_secret": "asub_…",
    "tags": {"premium_user": "true"},
    "device_info": {"device_model": "iPhone 13", "country_code": "KR"},
    "unlinked_subscriptions": [ID.format(2)],
    "unknown": [],
    "variables": ["user_name", "order_id"],
    "event_type": "sent",
    "code": "invalid_token",
    "category": "info",
    "locale": "ko",
    "default_locale": "ko",
    "title_template": "{{user_name}}",
    "body_template": "Order {{order_id}} is confirmed.",
    "data_template": {"order_id": "{{order_id}}"},
    "action": "subscription.disable",
    "resource": f"subscription/{ID.format(2)}",
    "message": "User deletion request has been processed",
    "created_at": "2026-01-31T09:00:00.000Z",
    "start": "21:30",
    "end": "08:00",
    "tier": "premium",
    "settings": {"timezone": "Asia/Seoul", "quiet_hours": {"start": "21:30", "end": "08:00"}},
    "status": "successful",
    "priority": "normal",
    "per_page": 20,
    "reason": None,
    "failed_at": None,
    "cancelled_at": None,
    "converted_at": None,
    "unsubscribed_at": None,
    "archived_at": None,
    "error": None,
    "next_cursor": None,
}
"""What a field of this name holds, where its schema allows it."""
_BY_TYPE: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "null": None, "object": {}}


def sample(schema: Schema, schemas: Mapping[str, Schema], name: str = "") -> Any:
    """`schemas` holds what references lead to, by the last part of their names."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return _of_alternatives(schema["anyOf"], schemas, name)
    if "enum" in schema:
        return BY_NAME[name] if BY_NAME.get(name) in schema["enum"] else schema["enum"][0]
    kind = schema.get("type", "object")
    if "properties" in schema:
        return _of_properties(schema, schemas)
    if _is(kind, BY_NAME.get(name)):
        return BY_NAME[name]
    if kind == "array":
        return [sample(schema["items"], schemas)]
    if kind == "string":
        return "2026-01-31T09:00:00.000Z" if schema.get("format") == "date-time" else "text"
    return _BY_TYPE[kind]


def _of_alternatives(alternatives: list[Schema], schemas: Mapping[str, Schema], name: str) -> Any:
    """Something rather than nothing, unless the name says that nothing is usual."""
    if name in BY_NAME and BY_NAME[name] is None and {"type": "null"} in alternatives:
        return None
    return sample(alternatives[0], schemas, name)


def _of_properties(schema: Schema, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """What is required, and of the rest what is known by name: the rest is for other cases."""
    wanted = set(schema.get("required", ())) | {name for name in schema["properties"] if BY_NAME.get(name) is not None}
    return {name: sample(said, schemas, name) for name, said in schema["properties"].items() if name in wanted}


def _is(kind: str, value: Any) -> bool:
    found = {str: "string", int: "integer", list: "array", dict: "object"}.get(type(value))
    return found == kind
