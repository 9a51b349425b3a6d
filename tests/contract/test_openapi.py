"""The OpenAPI document says all that the route table knows, in the form that OpenAPI 3.1 wants."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import OpenAPIV31SpecValidator

from libs.contract.operations import codes_of
from services.ingest.errors import TABLE
from services.ingest.routes import ROUTES
from tests.contract.rest_requests import OPERATIONS
from tests.contract.rest_schema import DOCUMENT, validator
from tests.contract.rest_unserved import unserved

LANGUAGES = ("en", "ko")
ALL = [DOCUMENT["paths"][route.path][route.method.lower()] for route in ROUTES]


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_has_every_route_and_no_other() -> None:
    said = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert said == {(route.method, route.path) for route in ROUTES}


def test_operations_have_ids_of_their_own() -> None:
    assert [operation["operationId"] for operation in ALL] == list(OPERATIONS)
    assert len(OPERATIONS) == len(ROUTES)


@pytest.mark.parametrize("identifier", OPERATIONS)
def test_an_operation_is_explained(identifier: str) -> None:
    route = OPERATIONS[identifier]
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["summary"]
    assert operation["x-scopes"] == list(route.scopes)
    said = {code for status in operation["responses"].values() for code in _codes(status)}
    assert said == set(codes_of(route))
    assert {str(route.status), *map(str, route.other_statuses)} <= set(operation["responses"])
    for response in operation["responses"].values():
        assert "X-Request-Id" in response["headers"]


@pytest.mark.parametrize("identifier", [name for name, route in OPERATIONS.items() if route.body is not None])
def test_a_body_has_an_example_and_no_unknown_fields(identifier: str) -> None:
    route = OPERATIONS[identifier]
    media = DOCUMENT["paths"][route.path][route.method.lower()]["requestBody"]["content"]["application/json"]
    assert "example" in media or not route.body_required
    schema = DOCUMENT["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("identifier", [name for name, route in OPERATIONS.items() if route.answer is not None])
def test_an_answer_has_an_example_that_fits(identifier: str) -> None:
    route = OPERATIONS[identifier]
    for status in (route.status, *route.other_statuses):
        response = DOCUMENT["paths"][route.path][route.method.lower()]["responses"][str(status)]
        validator(identifier, str(status)).validate(response["content"]["application/json"]["example"])


def test_schemas_have_plain_names() -> None:
    """Two structs of one name would be told apart by their modules, and their docstrings would be lost."""
    assert [name for name in DOCUMENT["components"]["schemas"] if not name.isidentifier()] == []


def test_every_error_has_an_example_in_both_languages() -> None:
    assert set(DOCUMENT["components"]["examples"]) == {f"{code}.{language}" for code in TABLE for language in LANGUAGES}


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        place: Any = DOCUMENT
        for step in reference.split("/"):
            place = place[step]


class TestServed:
    @pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
    async def test_anybody_may_read_it_and_is_told_when_it_did_not_change(self, path: str) -> None:
        async with TestClient(TestServer(unserved())) as client:
            first = await client.get(path)
            again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
            other = await client.get(path, headers={"If-None-Match": '"other"'})
        assert (first.status, again.status, other.status) == (200, 304, 200)
        assert first.headers["X-Request-Id"]
        assert again.headers["ETag"] == first.headers["ETag"]

    async def test_the_document_is_the_one_in_proto(self) -> None:
        async with TestClient(TestServer(unserved())) as client:
            served = await (await client.get("/openapi.json")).json()
        assert served["paths"] == DOCUMENT["paths"]

    async def test_gzip_is_given_to_who_wants_it_alone(self) -> None:
        async with TestClient(TestServer(unserved()), auto_decompress=False) as client:
            zipped = await client.get("/docs", headers={"Accept-Encoding": "gzip"})
            plain = await client.get("/docs", headers={"Accept-Encoding": "identity"})
            assert (await zipped.read())[:2] == b"\x1f\x8b"
            assert (await plain.read()).startswith(b"<!doctype html>")

    async def test_the_page_needs_nothing_else(self) -> None:
        async with TestClient(TestServer(unserved())) as client:
            answer = await client.get("/docs")
            page = _Page()
            page.feed(await answer.text())
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.fetched == []
        assert {f"#{name}" for name in OPERATIONS} <= page.links
        assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids


class _Page(HTMLParser):
    """What a page loads by itself, where it links to, and what can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                assert value not in self.ids
                self.ids.add(value)
            if name == "href" and tag == "a" and value:
                self.links.add(value)
            elif name in ("src", "href", "style") or name.startswith("on"):
                self.fetched.append(f"{tag} {name}")
        if tag == "script":
            self.fetched.append(tag)


def _codes(response: dict[str, Any]) -> list[str]:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return [code for part in schema.get("allOf", ()) for code in _enum(part)]


def _enum(part: dict[str, Any]) -> list[str]:
    found: list[str] = part.get("properties", {}).get("error", {}).get("properties", {}).get("code", {}).get("enum", [])
    return found
