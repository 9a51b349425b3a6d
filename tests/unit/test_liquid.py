"""Liquid, guarded: what templates can say, what they must be given, and what they cannot reach."""

from datetime import UTC, datetime
from typing import Any

import pytest

from libs.errors import InvalidTemplateVariables, MissingRequiredVariable
from libs.rpc import TemplateContent, Variant
from services.ingest.errors import REASONS
from services.templating.budget import Budget
from services.templating.content import Parsed, Version
from services.templating.liquid import Missing, parse
from services.templating.markup import Refused

ORDER = TemplateContent(
    "{{user_name}}님의 주문이 확인되었습니다",
    "주문번호 {{order_id}}가 확인되었습니다. 결제금액: {{order_amount}}, 예상 배송일: {{estimated_delivery}}",
    {"action": "open_screen", "order_id": "{{order_id}}", "highlight": True, "deep": [{"to": "{{user_name}}"}, 1.5]},
)
ORDERED = {
    "user_name": "홍길동",
    "order_id": "ORD-12345",
    "order_amount": "35,000원",
    "estimated_delivery": "4월 10일",
}


def rendered(source: str, **variables: Any) -> str:
    return parse(source).render(variables, Budget())


def required(source: str) -> list[str]:
    return [".".join(names) for names in parse(source).required]


def refusal(source: str, variables: dict[str, Any] | None = None) -> tuple[str, Any]:
    with pytest.raises(Refused) as refused:
        parse(source).render(variables or {}, Budget())
    return refused.value.reason


# the language -------------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation() -> None:
    text = Parsed(ORDER).render(ORDERED)
    assert text.title == "홍길동님의 주문이 확인되었습니다"
    assert text.body == "주문번호 ORD-12345가 확인되었습니다. 결제금액: 35,000원, 예상 배송일: 4월 10일"
    assert text.data == {
        "action": "open_screen",
        "order_id": "ORD-12345",
        "highlight": True,
        "deep": [{"to": "홍길동"}, 1.5],
    }


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 이름 }}님", "홍길동님"),
        ("{{사용자.이름}}", "홍길동"),
        ("{{ 사용자['이름'] }}", "홍길동"),
        ("{{ user-name }}", "hyphen"),
        ("{{ n }} {{ f }} {{ yes }} {{ nothing }}.", "3 1.5 true ."),
        ("{{ items }}", "ab"),
        ("{{ items[1] }}-{{ items.first }}-{{ items.size }}", "b-a-2"),
        (
            "{% for i in items %}{{ forloop.index }}{{ i }}{% unless forloop.last %},{% endunless %}{% endfor %}",
            "1a,2b",
        ),
        ("{% for i in (1..n) reversed %}{{ i }}{% endfor %}", "321"),
        ("{% for i in (1..9) limit: 2 offset: 3 %}{{ i }}{% endfor %}", "45"),
        ("{% for i in none %}x{% else %}empty{% endfor %}", "empty"),
        ("{% if n > 2 and yes %}many{% elsif n == 1 %}one{% else %}few{% endif %}", "many"),
        ("{% case n %}{% when 1 %}one{% when 2, 3 %}some{% else %}many{% endcase %}", "some"),
        ("{% assign a = 이름 | append: '님' %}{% capture b %}[{{ a }}]{% endcapture %}{{ b }}", "[홍길동님]"),
        ("a{% comment %}{{ missing }}{% endcomment %}b{% # note %}c", "abc"),
        ("{% raw %}{{ 이름 }}{% endraw %}", "{{ 이름 }}"),
        ("{{ html }}", "<b>&</b>"),
        ("{{ html | escape }}", "&lt;b&gt;&amp;&lt;/b&gt;"),
        ("{{ gone | default: '고객' }}{{ 사용자.gone | default: 'x' }}{{ nothing | default: 'y' }}", "고객xy"),
        ("{{ [key] }}", "홍길동"),
        ("{{ '2026-04-10T09:00:00+09:00' | date: '%Y년 %-m월 %-d일 %H:%M' }}", "2026년 4월 10일 09:00"),
        ("{{ 0 | date: '%Y-%m-%d %H:%M' }} {{ '86400' | date: '%d' }}", "1970-01-01 00:00 02"),
        ("{{ 'soon' | date: '%Y' }}", "soon"),
        ("{ {{ n }} } %}", "{ 3 } %}"),
        ("  {{- n -}}  ", "3"),
        ("plain }} text {", "plain }} text {"),
    ],
)
def test_what_a_template_says(source: str, text: str) -> None:
    variables = {
        "이름": "홍길동",
        "사용자": {"이름": "홍길동"},
        "user-name": "hyphen",
        "key": "이름",
        "n": 3,
        "f": 1.5,
        "yes": True,
        "nothing": None,
        "items": ["a", "b"],
        "none": [],
        "html": "<b>&</b>",
    }
    assert rendered(source, **variables) == text


def test_the_time_now_is_utc() -> None:
    before = datetime.now(UTC).strftime("%Y-%m-%d %H")
    assert rendered("{{ 'now' | date: '%Y-%m-%d %H' }}") in (before, datetime.now(UTC).strftime("%Y-%m-%d %H"))


@pytest.mark.parametrize("name", ["now", "today", "partial", "forloop"])
def test_every_name_is_the_callers_own(name: str) -> None:
    assert required("{{ " + name + " }}") == [name]
    assert rendered("{{ " + name + " }}", **{name: "mine"}) == "mine"


# what must be given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ b }}{{ a }}{{ b }}", ["b", "a"]),
        ("{{ 이름 }}", ["이름"]),
        ("{{ user.name }}{{ user['first name'] }}", ["user.name", "user.first name"]),
        ("{{ orders[0].id }}{{ orders.size }}{{ orders.first.id }}", ["orders"]),
        ("{{ a | default: 'x' }}", []),
        ("{{ a | default: b }}", ["b"]),
        ("{{ a | default: 'x' }}{{ a }}", ["a"]),
        ("{{ a | upcase | default: 'x' }}", ["a"]),
        ("{% if a %}{{ b }}{% endif %}", ["a", "b"]),
        ("{% assign c = a | default: 1 %}{{ c }}", []),
        ("{% for i in items %}{{ i.name }}{{ forloop.index }}{% endfor %}", ["items"]),
        ("{% for i in (1..n) limit: m %}{% endfor %}", ["n", "m"]),
        ("{% capture c %}{{ a }}{% endcapture %}{{ c }}", ["a"]),
        ("{% case a %}{% when b, 'c' %}{{ d }}{% else %}{{ e }}{% endcase %}", ["a", "b", "d", "e"]),
        ("{{ [key] }}{{ a[b.c] }}", ["key", "a", "b.c"]),
        ("{% comment %}{{ a }}{% endcomment %}{% raw %}{{ b }}{% endraw %}", []),
        ("nothing", []),
    ],
)
def test_what_must_be_given_is_read_from_the_source(source: str, names: list[str]) -> None:
    assert required(source) == names


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ["user.name", "code"]),
        ({"user": {}, "code": None}, ["user.name"]),
        ({"user": "Hong", "code": 1}, ["user.name"]),
        ({"user": {"name": None}}, ["code"]),
    ],
)
def test_all_that_is_missing_is_named_even_where_it_would_not_have_been_reached(
    variables: dict[str, Any], missing: list[str]
) -> None:
    parsed = Parsed(TemplateContent("{{ user.name }}", "{% if false %}{{ code }}{% endif %}"))
    with pytest.raises(MissingRequiredVariable) as refused:
        parsed.render(variables)
    assert refused.value.details["variable"] == missing[0]
    assert list(refused.value.details["fields"]) == [f"variables.{name}" for name in missing]


def test_what_only_shows_while_rendering_is_named_too() -> None:
    parsed = Parsed(TemplateContent(None, "{% for o in orders %}{{ o.id }}{% endfor %}"))
    assert parsed.render({"orders": [{"id": 7}]}).body == "7"
    with pytest.raises(MissingRequiredVariable) as refused:
        parsed.render({"orders": [{}]})
    assert refused.value.details["variable"] == "o.id"


# what is wrong with it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("a\nb\n{{ c ", 3, "'{{' without '}}'"),
        ("{% if a", 1, "'{%' without '%}'"),
        ("a\n{% if a %}", 1, "endif"),
        ("\n\n{{ a | nonsense }}", 3, "unknown filter 'nonsense'"),
        ("\n{% nonsense %}", 2, "unexpected tag 'nonsense'"),
        ("{{ a b }}", 1, "expected"),
        ("{{ 고객 이름 }}", 1, "expected"),
        ("{{ }}", 1, ""),
        ("{% %}", 1, "missing tag name"),
        ("{% endif %}", 1, "unexpected tag 'endif'"),
        ("\n{% raw %}", 2, "'raw' without 'endraw'"),
        ("{{ 'a }}", 1, ""),
        ("{{ a ! b }}", 1, ""),
        ("{% assign a.b = 1 %}", 1, ""),
        ("{% for i on items %}{% endfor %}", 1, ""),
        ("{{ (1..3) | join }}", 1, "a range outside of 'for'"),
        ("{% if (1..3) contains 2 %}{% endif %}", 1, "a range outside of 'for'"),
        ("{% if 1 %}" * 13 + "{% endif %}" * 13, 1, "block nesting limit reached"),
    ],
)
def test_a_syntax_error_names_its_line(source: str, line: int, says: str) -> None:
    kind, (found, text) = refusal(source)
    assert (kind, found) == ("liquid", line)
    assert says in text


@pytest.mark.parametrize(
    "tag",
    [
        "include 'a'", "render 'a'", "extends 'a'", "tablerow i in (1..9)", "cycle 1, 2", "increment a", "decrement a",
        "liquid", "echo 1", "ifchanged", "doc", "macro a", "block a", "import os",
    ],
)  # fmt: skip
def test_only_the_allowed_tags_exist(tag: str) -> None:
    kind, (_, text) = refusal("{% " + tag + " %}")
    assert kind == "liquid"
    assert "unexpected tag" in text


@pytest.mark.parametrize(
    "name", ["safe", "escapejs", "strip_html", "newline_to_br", "url_decode", "base64_decode", "t"]
)
def test_only_the_allowed_filters_exist(name: str) -> None:
    assert refusal("{{ 'a' | " + name + " }}")[1][1] == f"unknown filter '{name}'"


def test_every_bad_field_is_named_at_once() -> None:
    content = TemplateContent("{{ a", "fine", {"deep": [{"to": "{% x %}"}]})
    with pytest.raises(InvalidTemplateVariables) as refused:
        Version(content, [Variant(TemplateContent(body_template="{{"), "ko")], None).check()
    assert set(refused.value.details["fields"]) == {
        "title_template",
        "data_template.deep.0.to",
        "variants.0.body_template",
        "variants.0.data_template.deep.0.to",
    }


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("{{ user }}", {"user": {"name": "secret"}}),
        ("{{ users }}", {"users": [{"name": "secret"}]}),
        ("{{ a | divided_by: 0 }}", {"a": 1}),
        ("{{ a | date: b }}", {"a": 1, "b": {}}),
        ("{% if a < b %}{% endif %}", {"a": "secret", "b": 1}),
        ("{% for i in (1..3) limit: a %}{% endfor %}", {"a": "secret"}),
        ("{{ a | slice: 'secret' }}", {"a": "b"}),
        ("{{ a | truncate }}{{ a | upcase: 1, 2, 3 }}", {"a": "b"}),
        ("{{ a | plus: b }}", {"a": "Infinity", "b": "-Infinity"}),
        ("{{ a | ceil }}", {"a": "1e999"}),
        ("{{ a | escape: environment: a }}", {"a": "b"}),
        ("{{ a | upcase: context: a }}", {"a": "b"}),
        ("{{ a | append: val: a }}", {"a": "b"}),
        ("{{ a | map: 'k' }}", {"a": [1, "secret"]}),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_line_and_never_repeated(
    source: str, variables: dict[str, Any]
) -> None:
    assert refusal("\n" + source, variables) in (("liquid_value", 2), ("liquid_value", 1))


def test_every_kind_of_reason_is_known_at_the_edge() -> None:
    assert {"liquid", "liquid_value", "liquid_work", "maxLength", "required"} <= set(REASONS)


# what cannot be reached ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "s.__class__", "s['__class__']", "s.upper", "s.format", "d.keys", "d.__init__.__globals__", "l.append",
        "n.real", "n.__add__", "none.__class__", "s.mro", "s[0]", "d.items", "l['__len__']", "yes.numerator",
    ],
)  # fmt: skip
def test_nothing_of_python_can_be_reached(path: str) -> None:
    variables = {"s": "text", "d": {"a": 1}, "l": [1], "n": 1, "none": None, "yes": True}
    with pytest.raises(Missing):
        rendered("{{ " + path + " }}", **variables)


@pytest.mark.parametrize("path", ["it", "__class__", "_keys", "item", "step", "parentloop.it", "name.upper"])
def test_a_loop_shows_its_counters_only(path: str) -> None:
    with pytest.raises((Missing, Refused)):
        rendered("{% for i in (1..2) %}{% for j in (1..2) %}{{ forloop." + path + " }}{% endfor %}{% endfor %}")
