"""The templating service: defining, changing and finding templates, asked over NATS as other services ask it."""

import asyncio
import re
from typing import Any

import pytest

from libs import rpc
from libs.bus import Bus
from libs.errors import InvalidTemplateVariables, TemplateNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import Connection
from services.templating import queries
from tests.contract.templating_harness import (
    ACTOR,
    GREETING,
    NOBODY,
    OTHER,
    SHOP,
    create,
    get,
    render,
    switch,
    update,
    versions,
    wish,
)

pytest_plugins = ["tests.contract.templating_fixtures"]
pytestmark = pytest.mark.usefixtures("templating")


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
