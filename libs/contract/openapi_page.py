"""An OpenAPI document as one HTML page: readable without scripts, images or other files, so the strictest policy holds.

Swagger UI would want 1.6 MB of scripts and inline styles; no package bundles a version that knows OpenAPI 3.1 without
a web framework or an editor beside it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

Json = dict[str, Any]
_CODE = re.compile(r"`([^`]+)`")
_SHELL = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the operations</a>
<nav aria-label="Operations">{contents}</nav>
<main id="content">
<h1>{title} <small>{version}</small></h1>
{introduction}
<p><a href="/openapi.json">openapi.json</a> is this page for programs (OpenAPI {openapi}).</p>
{operations}
<h2 id="schemas">Schemas</h2>
{schemas}
</main>
</body>
</html>
"""


def policy(style: str) -> str:
    """Content-Security-Policy under which the page works: nothing but its own style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def render(document: Json, style: str) -> str:
    """The page."""
    by_tag: dict[str, list[tuple[str, str, Json]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append((method.upper(), path, operation))
    info = document["info"]
    return _SHELL.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        openapi=escape(document["openapi"]),
        style=style,
        contents="".join(_contents(tag, found) for tag, found in by_tag.items()) + '<a href="#schemas">Schemas</a>',
        introduction="".join(f"<p>{_text(part)}</p>" for part in info["description"].split("\n\n")),
        operations="".join(
            f"<h2>{escape(tag['name'].capitalize())}</h2><p>{_text(tag['description'])}</p>"
            + "".join(_operation(document, *each) for each in by_tag[tag["name"]])
            for tag in document["tags"]
        ),
        schemas="".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
    )


def _contents(tag: str, found: list[tuple[str, str, Json]]) -> str:
    links = "".join(
        f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></li>'
        for _, _, operation in found
    )
    return f"<h2>{escape(tag.capitalize())}</h2><ul>{links}</ul>"


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    identifier = operation["operationId"]
    prefix = document["servers"][0]["url"]
    parts = [
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">',
        f'<h3 id="{identifier}-title">{escape(operation["summary"])}</h3>',
        f'<p class="address"><b>{method}</b> <code>{escape(prefix + path)}</code></p>',
        f"<p>{_text(operation['description'])}</p>",
        _parameters(document, operation),
        _body(operation),
        f"<h4>Example</h4><pre>{escape(_curl(method, prefix + path, operation))}</pre>",
        "<h4>Answers</h4>",
        _responses(operation),
        _answer(operation),
        "</section>",
    ]
    return "".join(parts)


def _parameters(document: Json, operation: Json) -> str:
    rows = []
    for each in operation.get("parameters", []):
        parameter = _resolved(document, each)
        name = f"<code>{escape(parameter['name'])}</code> <small>{parameter['in']}</small>"
        text = _text(parameter.get("description", ""))
        rows.append((name + _mark(parameter.get("required", False)), _type(parameter["schema"]), text))
    return "<h4>Parameters</h4>" + _table(("Name", "Type", "Meaning"), rows) if rows else ""


def _body(operation: Json) -> str:
    if "requestBody" not in operation:
        return ""
    body = operation["requestBody"]
    kinds = ", ".join(
        f"<code>{escape(name)}</code>: {_type(media['schema'])}" for name, media in body["content"].items()
    )
    return f"<h4>Body</h4><p>{kinds}{'' if body['required'] else ', or none'}</p>"


def _curl(method: str, path: str, operation: Json) -> str:
    lines = [f"curl -X {method} http://localhost:8080{path}", "  -H 'X-API-Key: …'"]
    example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if example is not None:
        lines.append("  -H 'Content-Type: application/json'")
        text = json.dumps(example, ensure_ascii=False, indent=2).replace("'", "'\\''")
        lines.append(f"  -d '{text}'")
    return " \\\n".join(lines)


def _responses(operation: Json) -> str:
    rows = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        schema = next((media["schema"] for media in content.values()), None)
        kind = "" if schema is None or int(status) >= 400 else _type(schema.get("properties", {}).get("data", schema))
        rows.append((f"<code>{status}</code>", kind, _text(response["description"])))
    return _table(("Status", "Data", "Meaning"), rows)


def _answer(operation: Json) -> str:
    for response in operation["responses"].values():
        for media in response.get("content", {}).values():
            if "example" in media:
                text = json.dumps(media["example"], ensure_ascii=False, indent=2)
                return f"<details><summary>An answer</summary><pre>{escape(text)}</pre></details>"
    return ""


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>{_mark(field in required)}",
            _type(said),
            _text(said.get("description", "")),
        )
        for field, said in schema.get("properties", {}).items()
    ]
    fields = _table(("Field", "Type", "Meaning"), rows) if rows else f"<p>{_type(schema)}</p>"
    text = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    return f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3>{text}{fields}</section>'


def _type(schema: Json) -> str:
    """What a value may be, in one line of HTML."""
    return " or ".join(_alternatives(schema)) + _limits(schema)


def _alternatives(schema: Json) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield _type(each)
    elif "enum" in schema:
        for value in schema["enum"]:
            yield f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
    elif "const" in schema:
        yield f"<code>{escape(json.dumps(schema['const'], ensure_ascii=False))}</code>"
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        yield f"object of {_type(schema['additionalProperties'])}"
    else:
        kind = schema.get("type", "anything")
        yield escape(schema.get("format", kind) if isinstance(kind, str) else " or ".join(kind))


def _limits(schema: Json) -> str:
    words = {
        "minLength": "from {} characters",
        "maxLength": "to {} characters",
        "minimum": "from {}",
        "maximum": "to {}",
        "minItems": "from {} items",
        "maxItems": "to {} items",
        "default": "default {}",
    }
    said = [text.format(json.dumps(schema[key])) for key, text in words.items() if schema.get(key) is not None]
    return f" <small>{escape(', '.join(said))}</small>" if said else ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Of HTML that is escaped already."""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _mark(required: bool) -> str:
    return ' <small class="required">required</small>' if required else ""


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _resolved(document: Json, part: Json) -> Json:
    if "$ref" not in part:
        return part
    found: Any = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: Json = found
    return resolved
