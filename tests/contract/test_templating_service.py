"""The templating service, asked over NATS as other services ask it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.errors import InvalidTemplateVariables, SignalError, TemplateNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import Connection, single_connection
from services.templating import queries
from services.templating.__main__ import start
from services.templating.content import Version
from services.templating.rendering import MAX_CACHED, Cache
from services.templating.settings import Settings
from tests.databases import Database
from tests.in_process import running

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"
NOBODY = "01990000-0000-7000-8000-00000000000f"
ACTOR = "key:01990000-0000-7000-8000-00000000000c"
GREETING = rpc.TemplateContent("{{ name }}님", "{{ name }}님, 안녕하세요", {"to": "{{ name }}", "n": 1})


@pytest.fixture
def settings(database: Database, nats_settings: config.Nats) -> Settings:
    return Settings(config.Database(database.dsn("templating"), pool=4), nats_settings)


@pytest.fixture(autouse=True)
async def templating(settings: Settings) -> AsyncIterator[None]:
    async with running("templating", start, settings):
        yield


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    async with single_connection(database.admin_dsn) as connection:
        yield connection


async def create(bus: Bus, name: str = "greeting", application_id: str = SHOP, **more: Any) -> rpc.TemplateView:
    content = more.pop("content", GREETING)
    request = rpc.CreateTemplate(application_id, name, content, ACTOR, **more)
    return await bus.call("templating", "create", request, rpc.TemplateView)


async def update(bus: Bus, template_id: str, application_id: str = SHOP, **change: Any) -> rpc.TemplateView:
    content = rpc.ContentChange(**{key: change.pop(key) for key in list(change) if key.endswith("_template")})
    request = rpc.UpdateTemplate(application_id, template_id, "key:other", content=content, **change)
    return await bus.call("templating", "update", request, rpc.TemplateView)


async def get(bus: Bus, template_id: str, version: int | None = None, application_id: str = SHOP) -> rpc.TemplateView:
    request = rpc.GetTemplate(application_id, template_id, version)
    return await bus.call("templating", "get", request, rpc.TemplateView)


async def switch(bus: Bus, template_id: str, is_active: bool, application_id: str = SHOP) -> rpc.TemplateView:
    request = rpc.SetTemplateActive(application_id, template_id, is_active, "key:switch")
    return await bus.call("templating", "set_active", request, rpc.TemplateView)


async def versions(bus: Bus, template_id: str, application_id: str = SHOP, **paging: int) -> rpc.TemplatePage:
    request = rpc.ListVersions(application_id, template_id, **paging)
    return await bus.call("templating", "versions", request, rpc.TemplatePage)


async def render(
    bus: Bus, *wanted: rpc.RenderWanted, application_id: str = SHOP, preview: bool = False
) -> list[rpc.Rendered]:
    request = rpc.RenderMany(application_id, list(wanted), preview)
    return (await bus.call("templating", "render", request, rpc.RenderedMany)).results


def wish(template_id: str = "greeting", **more: Any) -> rpc.RenderWanted:
    return rpc.RenderWanted(template_id, more.pop("variables", {"name": "홍길동"}), **more)


# defining -----------------------------------------------------------------------------------------------------------


async def test_what_was_created_is_found_by_id_and_by_name(bus: Bus) -> None:
    variants = [rpc.Variant(rpc.TemplateContent("Hello {{ name }} {{ code }}"), "en", "iOSPush")]
    made = await create(bus, "주문 확인", description="첫 인사", default_locale="ko", variants=variants)
    assert await get(bus, made.id) == await get(bus, "주문 확인") == made
    assert (made.version, made.is_active, made.actor) == (1, True, ACTOR)
    assert (made.content, made.variants, made.default_locale) == (GREETING, variants, "ko")
    assert made.variables == ["name", "code"]
    assert made.created_at_ms == made.updated_at_ms


async def test_a_name_is_unique_within_its_application(bus: Bus) -> None:
    await create(bus)
    await create(bus, application_id=OTHER)
    with pytest.raises(ValidationFailed) as refused:
        await create(bus)
    assert refused.value.details == {"fields": {"name": ["taken", None]}}


async def test_of_simultaneous_creations_of_one_name_one_wins(bus: Bus, admin: Connection) -> None:
    answers = await asyncio.gather(*(create(bus) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(answer, rpc.TemplateView) for answer in answers) == 1
    assert sum(isinstance(answer, ValidationFailed) for answer in answers) == 19
    assert await admin.fetchval("SELECT count(*) FROM templating.versions") == 1


async def test_a_creation_that_is_repeated_with_its_id_makes_nothing_again(bus: Bus, admin: Connection) -> None:
    identifier = new_id()
    first, second = await create(bus, new_id=identifier), await create(bus, new_id=identifier)
    assert first == second
    assert first.id == identifier
    assert await admin.fetchval("SELECT count(*) FROM templating.templates") == 1


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a" * 201}, "name"),
        ({"name": "a\0"}, "name"),
        ({"description": "a" * 2001}, "description"),
        ({"content": rpc.TemplateContent()}, "title_template"),
        ({"content": rpc.TemplateContent("", "", {"a": "b"})}, "body_template"),
        ({"content": rpc.TemplateContent("a\0")}, "body_template"),
        ({"default_locale": "korean!"}, "default_locale"),
        ({"default_locale": "ko\n"}, "default_locale"),
        ({"variants": [rpc.Variant(GREETING)]}, "variants.0.locale"),
        ({"variants": [rpc.Variant(rpc.TemplateContent(), "ko")]}, "variants.0.title_template"),
        ({"variants": [rpc.Variant(GREETING, "ko-KR"), rpc.Variant(GREETING, "KO_kr")]}, "variants.1"),
        ({"variants": [rpc.Variant(GREETING, f"a{n:02}".translate(str.maketrans("0123456789", "abcdefghij")))
                       for n in range(51)]}, "variants"),
        ({"content": rpc.TemplateContent("a", None, {"a": ["{{ b }}" * 400] * 3})}, "data_template"),
        ({"application_id": "nonsense"}, "application_id"),
    ],
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_by_field(bus: Bus, more: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await create(bus, **more)
    assert field in refused.value.details["fields"]


async def test_a_syntax_error_is_refused_with_its_place(bus: Bus, admin: Connection) -> None:
    with pytest.raises(InvalidTemplateVariables) as refused:
        await create(bus, content=rpc.TemplateContent("fine", "a\n{{ b | nonsense }}"))
    assert refused.value.details == {"fields": {"body_template": ["liquid", [2, "unknown filter 'nonsense'"]]}}
    assert await admin.fetchval("SELECT count(*) FROM templating.templates") == 0


# changing -----------------------------------------------------------------------------------------------------------


async def test_an_update_makes_a_version_and_changes_only_what_is_given(bus: Bus) -> None:
    made = await create(bus, description="d", default_locale="ko", variants=[rpc.Variant(GREETING, "en")])
    second = await update(bus, made.id, body_template="{{ greeting }}")
    assert second.content == rpc.TemplateContent(GREETING.title_template, "{{ greeting }}", GREETING.data_template)
    assert (second.version, second.actor, second.variables) == (2, "key:other", ["name", "greeting"])
    assert (second.description, second.default_locale, second.variants) == ("d", "ko", made.variants)
    assert second.updated_at_ms > made.updated_at_ms
    third = await update(bus, "greeting", title_template=None, data_template=None, description=None, variants=[])
    assert third.content == rpc.TemplateContent(None, "{{ greeting }}")
    assert (third.description, third.default_locale, third.variants) == (None, "ko", [])
    assert await get(bus, made.id) == third


async def test_old_versions_stay_as_they_were(bus: Bus) -> None:
    made = await create(bus)
    await update(bus, made.id, title_template="new")
    old = await get(bus, made.id, 1)
    assert (old.version, old.content, old.actor) == (1, GREETING, ACTOR)
    page = await versions(bus, made.id)
    assert [(each.version, each.actor) for each in page.templates] == [(2, "key:other"), (1, ACTOR)]
    assert page.total == 2
    for missing in (0, 3, -1, 2**40):
        with pytest.raises(TemplateNotFound):
            await get(bus, made.id, missing)


async def test_simultaneous_updates_get_consecutive_versions_and_lose_nothing(bus: Bus) -> None:
    made = await create(bus)
    fields = [{f"{part}_template": f"{n}"} for n in range(10) for part in ("title", "body")]
    views = await asyncio.gather(*(update(bus, made.id, **field) for field in fields))
    assert sorted(view.version for view in views) == list(range(2, 22))
    last = await get(bus, made.id)
    latest = {part: max((v for v in views), key=lambda v: v.version) for part in ("title",)}["title"]
    assert last == latest
    assert last.content.title_template != GREETING.title_template
    assert last.content.body_template != GREETING.body_template


async def test_a_rename_frees_the_old_name_and_refuses_a_taken_one(bus: Bus) -> None:
    made = await create(bus)
    await create(bus, "taken")
    with pytest.raises(ValidationFailed) as refused:
        await update(bus, made.id, name="taken")
    assert refused.value.details == {"fields": {"name": ["taken", None]}}
    assert (await update(bus, made.id, name="renamed")).name == "renamed"
    with pytest.raises(TemplateNotFound):
        await get(bus, "greeting")
    assert (await create(bus, "greeting")).id != made.id


async def test_an_update_must_leave_a_template_that_works(bus: Bus) -> None:
    made = await create(bus)
    with pytest.raises(ValidationFailed):
        await update(bus, made.id, title_template=None, body_template="")
    with pytest.raises(InvalidTemplateVariables):
        await update(bus, made.id, data_template={"a": "{{"})
    assert await get(bus, made.id) == made


async def test_disabling_is_seen_at_once_and_twice_is_once(bus: Bus) -> None:
    made = await create(bus)
    off = await switch(bus, "greeting", False)
    assert (off.is_active, off.version) == (False, 1)
    assert await switch(bus, made.id, False) == off
    (refused,) = await render(bus, wish())
    assert (refused.fault_code, refused.fault_details) == ("template_inactive", {"id": made.id})
    (shown,) = await render(bus, wish(), preview=True)
    assert shown.title == "홍길동님"
    assert (await switch(bus, made.id, True)).is_active
    assert (await render(bus, wish()))[0].fault_code is None


async def test_who_changed_what_is_kept(bus: Bus, admin: Connection) -> None:
    made = await create(bus)
    await update(bus, made.id, title_template="b")
    await switch(bus, made.id, False)
    assert await admin.fetchval("SELECT actor FROM templating.templates") == "key:switch"
    actors = await admin.fetch("SELECT actor FROM templating.versions ORDER BY version")
    assert [row[0] for row in actors] == [ACTOR, "key:other"]


# looking up ---------------------------------------------------------------------------------------------------------


async def test_an_id_wins_over_a_name_that_looks_like_it(bus: Bus) -> None:
    first = await create(bus, "first")
    second = await create(bus, first.id, content=rpc.TemplateContent("impostor"))
    assert (await get(bus, first.id)).id == first.id
    assert (await render(bus, wish(first.id)))[0].template_id == first.id
    other = await create(bus, second.id, OTHER)
    assert (await get(bus, second.id, application_id=OTHER)).id == other.id


async def test_another_applications_template_is_as_unknown(bus: Bus, admin: Connection) -> None:
    theirs = await create(bus, application_id=OTHER)
    before = await admin.fetch("SELECT * FROM templating.templates")
    for name in (theirs.id, theirs.name, NOBODY, "nobody", "", "a" * 300, "a\0b", "\n"):
        for asked in (
            get(bus, name),
            update(bus, name, title_template="x"),
            switch(bus, name, False),
            versions(bus, name),
        ):
            with pytest.raises(TemplateNotFound):
                await asked
        (refused,) = await render(bus, wish(name))
        assert (refused.fault_code, refused.template_id) == ("template_not_found", "")
    assert await admin.fetch("SELECT * FROM templating.templates") == before
    assert (await bus.call("templating", "list", rpc.ListTemplates(SHOP), rpc.TemplatePage)).total == 0


async def test_the_list_goes_by_age_and_says_how_many(bus: Bus) -> None:
    made = [await create(bus, f"t{n}") for n in range(5)]
    await switch(bus, made[1].id, False)

    async def listed(**more: Any) -> tuple[list[str], int]:
        page = await bus.call("templating", "list", rpc.ListTemplates(SHOP, **more), rpc.TemplatePage)
        assert all(each.content == rpc.TemplateContent() for each in page.templates)
        return [each.name for each in page.templates], page.total

    assert await listed() == (["t0", "t1", "t2", "t3", "t4"], 5)
    assert await listed(limit=2, offset=2) == (["t2", "t3"], 5)
    assert await listed(is_active=True) == (["t0", "t2", "t3", "t4"], 4)
    assert await listed(is_active=False) == (["t1"], 1)
    with pytest.raises(ValidationFailed):
        await listed(limit=1000)


@pytest.mark.parametrize("statement", ["FIND_HEADS", "FIND_WHOLE", "VERSIONS", "LIST_TEMPLATES", "LIST_VERSIONS"])
async def test_no_statement_reads_a_whole_table(admin: Connection, statement: str) -> None:
    await admin.execute(queries.INDEXES_ONLY)
    await admin.execute("SET plan_cache_mode = force_generic_plan")
    text = getattr(queries, statement)
    parameters = ["NULL"] * len(set(re.findall(r"\$\d+", text)))
    await admin.execute(f"PREPARE asked AS {text}")
    plan = await admin.fetch(f"EXPLAIN EXECUTE asked ({', '.join(parameters)})")
    assert [line[0] for line in plan if "Index" in line[0]]
    assert not [line[0] for line in plan if "Seq Scan" in line[0]]


# rendering ----------------------------------------------------------------------------------------------------------


async def test_many_are_rendered_or_refused_each_on_its_own(bus: Bus) -> None:
    made = await create(bus)
    await create(bus, "picky", content=rpc.TemplateContent("{{ user }}"))
    await switch(bus, (await create(bus, "off")).id, False)
    found = await render(
        bus,
        wish(),
        wish(variables={}),
        wish("nobody"),
        wish("off"),
        wish("picky", variables={"user": {"secret": 1}}),
        wish(made.id, variables={"name": "가" * 30_000}),
        wish(made.id, version=1),
        wish(made.id, version=9),
    )
    first = found[0]
    assert (first.template_id, first.version, first.title) == (made.id, 1, "홍길동님")
    assert (first.body, first.data) == ("홍길동님, 안녕하세요", {"to": "홍길동", "n": 1})
    assert [each.fault_code for each in found] == [
        None, "missing_required_variable", "template_not_found", "template_inactive", "invalid_template_variables",
        "message_too_large", None, "template_not_found",
    ]  # fmt: skip
    assert found[1].fault_details == {"variable": "name", "fields": {"variables.name": ["required", None]}}
    assert found[4].fault_details == {"fields": {"title_template": ["liquid_value", 1]}}


@pytest.mark.parametrize(
    ("locale", "channel", "title"),
    [
        (None, None, "default"),
        ("ko", None, "ko"),
        ("ko-KR", None, "ko"),
        ("KO_kr", "Email", "ko"),
        ("ko", "SMS", "ko sms"),
        ("ko-KR-x-a", "SMS", "ko sms"),
        ("en-GB", None, "en-GB"),
        ("en-GB", "SMS", "en-GB"),
        ("en", None, "default"),
        ("fr", "SMS", "sms"),
        (None, "SMS", "sms"),
        ("fr", "iOSPush", "default"),
        ("x" * 5000, None, "default"),
    ],
)
async def test_the_language_counts_before_the_channel(
    bus: Bus, locale: str | None, channel: str | None, title: str
) -> None:
    variants = [
        rpc.Variant(rpc.TemplateContent(text), where, on)
        for text, where, on in (
            ("ko", "ko", None), ("ko sms", "ko", "SMS"), ("en-GB", "en-gb", None), ("sms", None, "SMS"),
        )
    ]  # fmt: skip
    content = rpc.TemplateContent("default", None, {"screen": "s"})
    await create(bus, content=content, variants=variants, default_locale="ja")
    (found,) = await render(bus, wish(locale=locale, channel=channel))
    assert (found.title, found.data) == (title, {"screen": "s"})
    assert found.locale == {"default": "ja", "ko": "ko", "ko sms": "ko", "en-GB": "en-gb", "sms": None}[title]
    assert found.channel == ("SMS" if "sms" in title else None)


async def test_a_variant_without_data_has_the_defaults_and_only_its_own_variables_are_needed(bus: Bus) -> None:
    variants = [rpc.Variant(rpc.TemplateContent("Hi {{ first_name }}"), "en")]
    made = await create(bus, variants=variants)
    assert made.variables == ["name", "first_name"]
    (found,) = await render(bus, wish(locale="en", variables={"first_name": "Gildong", "name": "홍길동"}))
    assert (found.title, found.body, found.data) == ("Hi Gildong", None, {"to": "홍길동", "n": 1})
    assert (await render(bus, wish()))[0].fault_code is None


async def test_a_new_version_is_used_at_once_and_an_old_one_on_request(bus: Bus) -> None:
    made = await create(bus)
    assert (await render(bus, wish()))[0].title == "홍길동님"
    await update(bus, made.id, title_template="{{ name }}!")
    found = await render(bus, wish(), wish(version=1), wish(version=2))
    assert [(each.version, each.title) for each in found] == [(2, "홍길동!"), (1, "홍길동님"), (2, "홍길동!")]


async def test_a_replica_that_has_parsed_nothing_says_the_same(
    bus: Bus, settings: Settings, nats_settings: config.Nats
) -> None:
    made = await create(bus)
    async with running("templating", start, settings):
        results = await asyncio.gather(*(render(bus, wish(made.id)) for _ in range(20)))
    assert {found[0].title for found in results} == {"홍길동님"}
    assert await get(bus, made.id) == made


async def test_a_thousand_come_in_one_answer_and_more_are_refused(bus: Bus) -> None:
    await create(bus)
    found = await render(bus, *(wish(variables={"name": str(n)}) for n in range(1000)))
    assert [each.title for each in found] == [f"{n}님" for n in range(1000)]
    with pytest.raises(ValidationFailed):
        await render(bus, *(wish() for _ in range(1001)))
    assert await render(bus) == []


async def test_an_answer_fits_into_one_message_of_nats(bus: Bus) -> None:
    await create(bus, content=rpc.TemplateContent(f"{{% for i in (1..15) %}}{'0123456789' * 310}{{% endfor %}}"))
    found = await render(bus, *(wish() for _ in range(200)))
    assert found[0].fault_code is None
    assert found[-1].fault_code == "message_too_large"


async def test_a_neighbour_is_answered_while_expensive_templates_are_rendered(bus: Bus) -> None:
    await create(bus, application_id=OTHER, content=rpc.TemplateContent("{% for i in (1..9999) %}{{ i }}{% endfor %}"))
    await create(bus)
    async with asyncio.TaskGroup() as group:
        heavy = group.create_task(render(bus, *(wish() for _ in range(1000)), application_id=OTHER))
        waits: list[float] = []
        while not heavy.done():
            started = time.perf_counter()
            (found,) = await render(bus, wish())
            waits.append(time.perf_counter() - started)
            assert found.title == "홍길동님"
    codes = [each.fault_code for each in heavy.result()]
    assert codes[0] == "invalid_template_variables"
    assert codes[-1] == "service_unavailable"
    assert len(waits) >= 10
    assert sorted(waits)[len(waits) // 2] < 0.25


async def test_of_applications_asking_at_the_same_time_each_gets_its_own(bus: Bus) -> None:
    for application_id in (SHOP, OTHER):
        await create(bus, application_id=application_id, content=rpc.TemplateContent(application_id))
    asked = [SHOP, OTHER, NOBODY] * 30
    answers = await asyncio.gather(*(render(bus, wish(), application_id=owner) for owner in asked))
    for owner, (found,) in zip(asked, answers, strict=True):
        assert found.title == (None if owner == NOBODY else owner)


async def test_a_failing_question_is_told_and_not_guessed(bus: Bus, admin: Connection) -> None:
    await create(bus)
    await admin.execute("ALTER TABLE templating.templates RENAME TO gone")
    with pytest.raises(SignalError) as failed:
        await render(bus, wish())
    assert failed.value.code == "internal_server_error"


def test_the_least_recently_used_version_goes_first() -> None:
    cache = Cache()
    keys = [queries.VersionKey(SHOP, str(n), 1) for n in range(3)]
    third = MAX_CACHED // 3 + 1
    cache.put(keys[0], Version(rpc.TemplateContent("a" * third), [], None))
    cache.put(keys[1], Version(rpc.TemplateContent("b" * third), [], None))
    assert cache.get(keys[0]) is not None
    cache.put(keys[2], Version(rpc.TemplateContent("c" * third), [], None))
    assert [cache.get(key) is not None for key in keys] == [True, False, True]
