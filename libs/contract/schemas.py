"""JSON Schemas (2020-12) of what travels between processes.

Envelopes and rpc are msgpack: an array stands where the schema says so, and `contentEncoding` marks raw bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from libs import rpc
from libs.alerts import Alert
from libs.contract.notes import field_notes, summary
from libs.contract.verbs import Verb
from libs.dead import DeadLetter
from libs.envelope import DispatchEnvelope, OutcomeEnvelope, SendEnvelope
from libs.events import EventBatch

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ON_STREAMS: dict[str, type[msgspec.Struct]] = {
    "event_batch": EventBatch,
    "dead_letter": DeadLetter,
    "dispatch_envelope": DispatchEnvelope,
    "send_envelope": SendEnvelope,
    "outcome_envelope": OutcomeEnvelope,
    "erasure_record": rpc.ErasureRecord,
    "alert": Alert,
}
"""What lies on the streams, by the name of its schema."""

Schema = dict[str, Any]


def definitions(kinds: Sequence[type[msgspec.Struct]], reference: str) -> dict[str, Schema]:
    """The schema of each struct and of all that it holds, by name; `reference` is such as `#/$defs/{name}`."""
    _, found = msgspec.json.schema_components(kinds, ref_template=reference)
    structs = {kind.__name__: kind for kind in _reachable(kinds)}
    for name, schema in found.items():
        if name in structs:
            _explain(schema, structs[name])
    return dict(sorted(found.items()))


def document(kind: type[msgspec.Struct]) -> Schema:
    """The schema of one struct, complete in itself."""
    return {
        "$schema": DIALECT,
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": definitions([kind], "#/$defs/{name}"),
    }


def rpc_document(service: str, verbs: Sequence[Verb]) -> Schema:
    """All that one service answers: each verb with its request, its reply and its errors."""
    kinds = [kind for verb in verbs for kind in (verb.request, verb.reply)]
    return {
        "$schema": DIALECT,
        "title": f"signal.rpc.{service}.*",
        "description": "Requests and replies, msgpack. A failed call is answered with Fault.",
        "verbs": {
            verb.name: {
                "request": {"$ref": f"#/$defs/{verb.request.__name__}"},
                "reply": {"$ref": f"#/$defs/{verb.reply.__name__}"},
                "errors": list(verb.errors),
            }
            for verb in verbs
        },
        "$defs": definitions([*kinds, rpc.Fault], "#/$defs/{name}"),
    }


def _explain(schema: Schema, kind: type[msgspec.Struct]) -> None:
    """Put the struct's and its fields' docstrings where a reader of the schema looks for them."""
    if text := summary(kind):
        schema["description"] = text
    notes = field_notes(kind)
    if schema["type"] == "array":
        fields = msgspec.structs.fields(kind)
        for field, item in zip(fields, schema["prefixItems"], strict=True):
            item.update(_described(item, f"{field.name}: {notes[field.name]}" if field.name in notes else field.name))
        return
    for field in msgspec.structs.fields(kind):
        if field.name in notes:
            place = schema["properties"][field.encode_name]
            place.update(_described(place, notes[field.name]))


def _described(schema: Schema, text: str) -> Schema:
    """A description of the struct meant stays: the field's own stands beside the reference (allowed since 2019-09)."""
    return {**schema, "description": text}


def _reachable(kinds: Sequence[type[msgspec.Struct]]) -> Iterator[type[msgspec.Struct]]:
    """Every struct that the given ones hold, themselves included."""
    for found in _walk(
        msgspec.inspect.multi_type_info(kinds), lambda info: isinstance(info, msgspec.inspect.StructType)
    ):
        yield found.cls


def _walk(found: Any, wanted: Callable[[Any], bool]) -> Iterator[Any]:
    if isinstance(found, (tuple, list)):
        for item in found:
            yield from _walk(item, wanted)
    elif isinstance(found, msgspec.inspect.Type | msgspec.inspect.Field):
        if wanted(found):
            yield found
        for name in found.__struct_fields__:
            yield from _walk(getattr(found, name), wanted)
