"""The templating service: rendering, asked over NATS as other services ask it."""

import asyncio
import time

import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.errors import SignalError, ValidationFailed
from libs.pg import Connection
from services.templating import queries
from services.templating.__main__ import start
from services.templating.content import Version
from services.templating.rendering import MAX_CACHED, Cache
from services.templating.settings import Settings
from tests.contract.templating_harness import (
    NOBODY,
    OTHER,
    SHOP,
    create,
    get,
    render,
    switch,
    update,
    wish,
)
from tests.in_process import running

pytest_plugins = ["tests.contract.templating_fixtures"]
pytestmark = pytest.mark.usefixtures("templating")


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
