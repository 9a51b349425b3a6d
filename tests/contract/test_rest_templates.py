"""Templates over HTTP, from the key to the table (REF-001 §5)."""

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from yarl import URL

from libs.pg import single_connection
from services.ingest.templates import ROUTES
from tests.contract.rest_gateway import Answer
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "주문 확인 알림"
ORDER = {
    "name": NAME,
    "title_template": "{{user_name}}님의 주문이 확인되었습니다",
    "body_template": "주문번호 {{order_id}} 확인. 결제금액: {{order_amount}}, 예상 배송일: {{estimated_delivery}}",
    "data_template": {
        "action": "open_screen",
        "screen": "order_details",
        "order_id": "{{order_id}}",
        "highlight": True,
    },
    "description": "주문 확인 시 전송되는 알림 템플릿",
}
VARIABLES = {
    "user_name": "홍길동",
    "order_id": "ORD-12345",
    "order_amount": "35,000원",
    "estimated_delivery": "4월 10일",
}
UNKNOWN = "01990000-0000-7000-8000-00000000000f"
SECRET = "홍길동-secret-4711"


@pytest_asyncio.fixture(loop_scope="module")
async def shop(shared_whole: Whole) -> Tenant:
    return await shared_whole.tenant()


async def created(shop: Tenant, **more: Any) -> str:
    answer = await shop.post("/templates", {**ORDER, **more})
    assert answer.status == 201, answer.body
    return str(answer.data["template_id"])


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


async def test_a_template_lives_as_the_documentation_says(shop: Tenant) -> None:
    made = await shop.post("/templates", ORDER)
    assert made.status == 201
    assert made.data.keys() == {"template_id", "name", "created_at", "version"}
    assert (made.data["name"], made.data["version"]) == (NAME, 1)
    path = f"/templates/{made.data['template_id']}"

    found = (await shop.get(path)).data
    assert {name: found[name] for name in ORDER} == ORDER
    assert (found["id"], found["version"], found["is_active"]) == (made.data["template_id"], 1, True)
    assert found["variables"] == list(VARIABLES)
    assert found["created_at"] == found["updated_at"] == made.data["created_at"]

    changed = await shop.call("PUT", path, {"title_template": "{{user_name}}님, 주문이 확인되었습니다"})
    assert changed.status == 200
    assert changed.data.keys() == {"id", "version", "updated_at"}
    assert changed.data["version"] == 2
    found = (await shop.get(path)).data
    assert found["title_template"] == "{{user_name}}님, 주문이 확인되었습니다"
    assert found["body_template"] == ORDER["body_template"]

    tested = await shop.post(f"{path}/render-test", {"variables": VARIABLES})
    assert tested.status == 200
    assert tested.data["title"] == "홍길동님, 주문이 확인되었습니다"
    assert tested.data["body"].startswith("주문번호 ORD-12345 확인")
    assert tested.data["data"] == {**ORDER["data_template"], "order_id": "ORD-12345"}  # type: ignore[dict-item]

    off = await shop.post(f"{path}/disable")
    assert (off.status, off.data["is_active"], off.data.keys()) == (200, False, {"id", "is_active", "updated_at"})
    assert (await shop.post(f"{path}/render-test", {"variables": VARIABLES})).status == 200
    assert (await shop.post(f"{path}/enable")).data["is_active"] is True


async def test_versions_are_kept_and_found(shop: Tenant) -> None:
    path = f"/templates/{await created(shop)}"
    await shop.call("PUT", path, {"title_template": "two", "variants": [{"locale": "en", "body_template": "hi"}]})
    listed = (await shop.get(f"{path}/versions", params={"per_page": "1"})).data
    assert [each["version"] for each in listed["versions"]] == [2]
    assert listed["pagination"]["total_items"] == listed["pagination"]["total_pages"] == 2
    assert listed["versions"][0]["actor"].startswith("key:")
    old = (await shop.get(path, params={"version": "1"})).data
    assert (old["version"], old["title_template"], old["variants"]) == (1, ORDER["title_template"], [])
    new = (await shop.get(path)).data
    assert (new["title_template"], new["variants"]) == ("two", [{"locale": "en", "body_template": "hi"}])
    for version, code in (
        ("3", (404, "template_not_found")),
        ("0", (422, "validation_error")),
        ("x", (422, "validation_error")),
    ):
        assert refused(await shop.get(path, params={"version": version})) == code


@pytest.mark.parametrize("name", [NAME, "50% off/today?", "a+b & c", "%2F", "..%", "템플릿#1", "versions"])
async def test_a_name_in_the_path_stands_for_the_id(shop: Tenant, name: str) -> None:
    identifier = await created(shop, name=name)
    path = f"/templates/{quote(name, safe='')}"
    assert (await get_encoded(shop, path)).data["id"] == identifier
    assert (await get_encoded(shop, f"{path}/versions")).data["versions"][0]["version"] == 1


async def get_encoded(shop: Tenant, path: str) -> Answer:
    """The path as it stands, not encoded again."""
    base = str(shop.session._base_url).rstrip("/")
    async with shop.session.get(URL(f"{base}/api/v1{path}", encoded=True), headers={"X-API-Key": shop.api_key}) as got:
        return Answer(got.status, got.headers, await got.json())


@pytest.mark.parametrize("path", ["%FF%FE", "%00", "a%00b", "%ED%A0%80", "a" * 300, "%20"])
async def test_what_cannot_be_a_name_is_not_found(shop: Tenant, path: str) -> None:
    assert refused(await get_encoded(shop, f"/templates/{path}")) == (404, "template_not_found")


async def test_an_id_wins_over_a_name_that_looks_like_it(shop: Tenant) -> None:
    first = await created(shop, name="first")
    await created(shop, name=first, title_template="impostor")
    assert (await shop.get(f"/templates/{first}")).data["name"] == "first"
    assert (await shop.get(f"/templates/{first.upper()}")).data["name"] == "first"


async def test_the_list_has_pages_and_a_filter(shop: Tenant) -> None:
    made = [await created(shop, name=f"t{n}") for n in range(3)]
    await shop.post(f"/templates/{made[1]}/disable")
    page = (await shop.get("/templates", params={"per_page": "2", "page": "2"})).data
    assert [each["name"] for each in page["templates"]] == ["t2"]
    assert page["templates"][0].keys() == {"id", "name", "version", "is_active", "created_at", "updated_at"}
    assert (page["pagination"]["total_items"], page["pagination"]["total_pages"]) == (3, 2)
    active = (await shop.get("/templates", params={"is_active": "true"})).data
    assert [each["name"] for each in active["templates"]] == ["t0", "t2"]
    off = (await shop.get("/templates", params={"is_active": "false"})).data
    assert [each["name"] for each in off["templates"]] == ["t1"]
    assert refused(await shop.get("/templates", params={"is_active": "perhaps"})) == (422, "validation_error")


@pytest.mark.parametrize(
    ("body", "field", "english", "korean"),
    [
        ({"title_template": "a\n{{ b"}, "title_template", "line 2: '{{' without '}}'", "2번째 줄: '{{' without '}}'"),
        ({"body_template": "{% include 'x' %}"}, "body_template", "line 1: unexpected tag 'include'", None),
        ({"data_template": {"a": ["{{ b | x }}"]}}, "data_template.a.0", "line 1: unknown filter 'x'", None),
        ({"variants": [{"locale": "en", "body_template": "{{"}]}, "variants.0.body_template", None, None),
    ],
)
async def test_a_syntax_error_names_field_and_line(
    shop: Tenant, body: dict[str, Any], field: str, english: str | None, korean: str | None
) -> None:
    for language, text in (("en", english), ("ko", korean)):
        answer = await shop.post("/templates", {**ORDER, **body}, headers={"Accept-Language": language})
        assert refused(answer) == (400, "invalid_template_variables")
        assert text is None or answer.details["fields"][field] == text
        assert field in answer.details["fields"]


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({"name": ""}, 422, {"name"}),
        ({"name": "a" * 201}, 422, {"name"}),
        ({"name": None}, 422, {"name"}),
        ({"title_template": None, "body_template": None}, 422, {"title_template", "body_template"}),
        ({"title_template": "a" * 16_385}, 422, {"title_template"}),
        ({"data_template": []}, 422, {"data_template"}),
        ({"data_template": {"a": 2**70}}, 422, {"data_template"}),
        ({"data_template": {"a": "\0"}}, 422, {"data_template"}),
        ({"default_locale": "english please"}, 422, {"default_locale"}),
        ({"variants": [{"body_template": "a"}]}, 422, {"variants.0.locale"}),
        ({"variants": [{"channel": "Fax", "body_template": "a"}]}, 422, {"variants.0.channel"}),
        ({"variants": [{"locale": "ko", "body_template": "a"}] * 2}, 422, {"variants.1"}),
        ({"more": 1}, 422, {"more"}),
        ({"description": "a" * 2001}, 422, {"description"}),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_field(
    shop: Tenant, body: dict[str, Any], status: int, fields: set[str]
) -> None:
    for language in ("en", "ko"):
        answer = await shop.post("/templates", {**ORDER, **body}, headers={"Accept-Language": language})
        assert refused(answer) == (status, "validation_error")
        assert set(answer.details["fields"]) == fields
        assert all(isinstance(text, str) for text in answer.details["fields"].values())


async def test_a_name_that_is_taken_is_refused_in_both_languages(shop: Tenant) -> None:
    await created(shop)
    other = await created(shop, name="other")
    for language, text in (("en", "is the name of another template"), ("ko", "다른 템플릿이 사용하는 이름입니다")):
        headers = {"Accept-Language": language}
        for answer in (
            await shop.post("/templates", ORDER, headers=headers),
            await shop.call("PUT", f"/templates/{other}", {"name": NAME}, headers=headers),
        ):
            assert refused(answer) == (422, "validation_error")
            assert answer.details["fields"] == {"name": text}


async def test_a_preview_takes_the_variant_and_the_version_that_are_asked_for(shop: Tenant) -> None:
    variants = [
        {"locale": "en", "title_template": "Order {{ order_id }}"},
        {"locale": "en", "channel": "SMS", "body_template": "{{ order_id }} ok"},
    ]
    path = f"/templates/{await created(shop, variants=variants, default_locale='ko')}/render-test"

    async def preview(**more: Any) -> Any:
        return (await shop.post(path, {"variables": VARIABLES, **more})).data

    assert (await preview())["locale"] == "ko"
    english = await preview(locale="en-GB")
    assert (english["title"], english["body"], english["locale"]) == ("Order ORD-12345", None, "en")
    assert english["data"]["order_id"] == "ORD-12345"
    sms = await preview(locale="en", channel="SMS")
    assert (sms["title"], sms["body"], sms["channel"], sms["version"]) == (None, "ORD-12345 ok", "SMS", 1)
    wrong: list[dict[str, Any]] = [
        {"channel": "Fax"},
        {"locale": "a" * 99},
        {"version": 0},
        {"variables": []},
        {"x": 1},
    ]
    for body in wrong:
        assert refused(await shop.post(path, body)) == (422, "validation_error")
    assert refused(await shop.post(path, {"version": 7})) == (404, "template_not_found")


@pytest.mark.parametrize(
    ("source", "variables", "code", "details"),
    [
        (
            "{{ user.name }}{{ b }}",
            {"user": {}},
            "missing_required_variable",
            {"variable": "user.name", "fields": {"variables.user.name": "is required", "variables.b": "is required"}},
        ),
        (
            "\n{{ user }}",
            {"user": {"secret": 1}},
            "invalid_template_variables",
            {"fields": {"title_template": "line 2: one of the variables cannot be used there"}},
        ),
        (
            "{% for i in (1..n) %}{% endfor %}",
            {"n": 10**9},
            "invalid_template_variables",
            {"fields": {"title_template": "takes too much work to render"}},
        ),
        ("{{ a }}", {"a": "b" * 70_000}, "message_too_large", {"limit": 65_536}),
    ],
)
async def test_a_preview_says_what_is_wrong(
    shop: Tenant, source: str, variables: dict[str, Any], code: str, details: dict[str, Any]
) -> None:
    path = f"/templates/{await created(shop, title_template=source, body_template='', data_template={})}/render-test"
    answer = await shop.post(path, {"variables": variables})
    assert refused(answer) == (400, code)
    assert answer.details == details
    assert (await shop.post(path, {"variables": variables}, headers={"Accept-Language": "ko"})).status == 400


async def test_what_a_preview_is_given_is_neither_kept_nor_logged(
    shared_whole: Whole, shop: Tenant, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = f"/templates/{await created(shop)}/render-test"
    assert SECRET in (await shop.post(path, {"variables": {**VARIABLES, "user_name": SECRET}})).data["title"]
    await shop.post(path, {"variables": {"user_name": {"a": SECRET}, "order_id": SECRET}})
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    async with single_connection(shared_whole.database.admin_dsn) as admin:
        tables = await admin.fetch(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|info)'"
        )
        for (table,) in tables:
            kept = await admin.fetchval(
                f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%' || $1 || '%'", SECRET
            )
            assert kept == 0, table


CALLS = [
    ("GET", "", None),
    ("PUT", "", {"title_template": "stolen"}),
    ("GET", "/versions", None),
    ("POST", "/enable", None),
    ("POST", "/disable", None),
    ("POST", "/render-test", {"variables": VARIABLES}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_another_applications_template_is_as_unknown(
    shared_whole: Whole, shop: Tenant, method: str, path: str, body: Any
) -> None:
    theirs = await shared_whole.tenant()
    identifier = await created(theirs)
    before = (await theirs.get(f"/templates/{identifier}")).data
    answers = [await shop.call(method, f"/templates/{named}{path}", body) for named in (identifier, NAME, UNKNOWN)]
    assert [refused(answer) for answer in answers] == [(404, "template_not_found")] * 3
    assert [answer.details["id"] for answer in answers] == [identifier, NAME, UNKNOWN]
    assert (await theirs.get(f"/templates/{identifier}")).data == before
    assert (await shop.get("/templates")).data["templates"] == []


@pytest.mark.parametrize("scope", ["read", "manage", "send"])
async def test_each_scope_may_do_what_the_table_says(shared_whole: Whole, shop: Tenant, scope: str) -> None:
    identifier = await created(shop)
    narrow = await shared_whole.with_key(shop.application_id, [scope])
    for route in ROUTES:
        body = {**route.example, "name": f"for {scope}"} if route.path == "/templates" and route.body else route.example
        answer = await narrow.call(route.method, route.path.replace("{id}", identifier), body)
        allowed = scope in route.scopes
        assert (answer.status != 403) is allowed, f"{route.method} {route.path}"


async def test_changes_are_in_the_audit_log_with_the_id_even_where_the_name_was_given(shop: Tenant) -> None:
    identifier = await created(shop)
    path = f"/templates/{quote(NAME)}"
    await shop.call("PUT", path, {"title_template": "b"})
    await shop.post(f"{path}/disable")
    await shop.post(f"{path}/enable")
    await shop.post(f"{path}/render-test", {"variables": VARIABLES})
    found = (await shop.get("/audit-log")).data
    entries = next(value for value in found.values() if isinstance(value, list))
    assert [(each["action"], each["resource"]) for each in entries[:4]] == [
        (action, f"template/{identifier}")
        for action in ("template.enable", "template.disable", "template.update", "template.create")
    ]


async def test_a_repeated_creation_answers_as_the_first_time(shop: Tenant) -> None:
    answers = [await shop.post("/templates", ORDER, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].data == answers[1].data
    assert answers[1].headers["Idempotency-Replayed"] == "true"


async def test_reading_again_what_did_not_change_is_cheap(shop: Tenant) -> None:
    path = f"/templates/{await created(shop)}"
    first = await shop.get(path)
    again = await shop.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    await shop.post(f"{path}/disable")
    assert (await shop.get(path, headers={"If-None-Match": first.headers["ETag"]})).status == 200


async def test_simultaneous_updates_get_consecutive_versions(shop: Tenant) -> None:
    path = f"/templates/{await created(shop)}"
    answers = await asyncio.gather(*(shop.call("PUT", path, {"title_template": f"{n}"}) for n in range(12)))
    assert sorted(answer.data["version"] for answer in answers) == list(range(2, 14))
