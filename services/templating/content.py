"""What a version of a template says: its variants, parsed, and which of them a recipient gets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from libs.errors import InvalidTemplateVariables, MessageTooLarge, MissingRequiredVariable
from libs.rpc import TemplateContent, Variant
from services.templating.budget import MAX_OUTPUT, Budget
from services.templating.liquid import Missing, Names, Source, TooLarge, parse
from services.templating.markup import Refused

Reasons = dict[str, tuple[str, Any]]
"""Bad fields, each with a kind of reason of the gateway's and its value."""


MARKUP = 25
"""Characters that a brace weighs as much as."""
MAX_LOCALE = 35
"""Characters that RFC 5646 §4.4.1 asks one to have room for."""


class Text(NamedTuple):
    title: str | None
    body: str | None
    data: dict[str, Any]


class Parsed:
    """One variant, ready to be rendered."""

    def __init__(self, content: TemplateContent, place: str = "") -> None:
        """`place` stands before the names of fields. Raises `InvalidTemplateVariables` naming every bad one."""
        self._place = place
        self._bad: Reasons = {}
        self._sources: list[tuple[str, Source]] = []
        self._title = self._parsed("title_template", content.title_template)
        self._body = self._parsed("body_template", content.body_template)
        self._data = self._tree("data_template", content.data_template)
        if self._bad:
            raise InvalidTemplateVariables(fields=self._bad)
        self.required: tuple[Names, ...] = tuple(
            dict.fromkeys(names for _, source in self._sources for names in source.required)
        )
        """In the order in which they stand."""

    def _parsed(self, field: str, text: str | None) -> Source | None:
        if text is None:
            return None
        try:
            source = parse(text)
        except Refused as refused:
            self._bad[self._place + field] = refused.reason
            return None
        self._sources.append((field, source))
        return source

    def _tree(self, field: str, value: Any) -> Any:
        """The same data with sources where there was text."""
        if isinstance(value, str):
            return self._parsed(field, value)
        if isinstance(value, dict):
            return {key: self._tree(f"{field}.{key}", item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._tree(f"{field}.{at}", item) for at, item in enumerate(value)]
        return value

    def render(self, variables: Mapping[str, Any]) -> Text:
        """Raises `MissingRequiredVariable`, `InvalidTemplateVariables`, `MessageTooLarge`."""
        missing = [".".join(names) for names in self.required if _is_missing(names, variables)]
        if missing:
            raise _missing(missing)
        budget = Budget()
        texts: dict[int, str] = {}
        for field, source in self._sources:
            try:
                texts[id(source)] = source.render(variables, budget)
            except Missing as error:
                raise _missing([error.variable]) from None
            except Refused as refused:
                raise InvalidTemplateVariables(fields={self._place + field: refused.reason}) from None
            except TooLarge:
                raise MessageTooLarge(limit=MAX_OUTPUT) from None
        return Text(_filled(self._title, texts), _filled(self._body, texts), _filled(self._data, texts))


def _filled(tree: Any, texts: Mapping[int, str]) -> Any:
    if type(tree) is Source:
        return texts[id(tree)]
    if type(tree) is dict:
        return {key: _filled(item, texts) for key, item in tree.items()}
    if type(tree) is list:
        return [_filled(item, texts) for item in tree]
    return tree


def _is_missing(names: Names, variables: Any) -> bool:
    for name in names:
        if type(variables) is not dict or name not in variables:
            return True
        variables = variables[name]
    return False


def _missing(variables: Sequence[str]) -> MissingRequiredVariable:
    return MissingRequiredVariable(
        variable=variables[0], fields={f"variables.{name}": ("required", None) for name in variables}
    )


class Version:
    """One version of a template. A variant is parsed when it is first wanted."""

    def __init__(self, content: TemplateContent, variants: Sequence[Variant], default_locale: str | None) -> None:
        self.default_locale = default_locale
        self._content = content
        self._variants = {(_lower(each.locale), each.channel): at for at, each in enumerate(variants)}
        self._all = variants
        self._parsed: dict[int | None, Parsed] = {}
        texts = (text for each in (content, *(v.content for v in variants)) for text in texts_of(each))
        self.size = sum(len(text) + MARKUP * text.count("{") for text in texts)
        """Characters of all sources, and more for what has to be parsed: a measure of the memory it takes."""

    def choose(self, locale: str | None, channel: str | None) -> int | None:
        """Index of the variant for a recipient; None: the default content.

        The language counts before the channel: exact locale, then ever shorter ones (RFC 4647 §3.4), then any; within
        each, the channel's own variant before the one for all channels.
        """
        for step in (*_shorter(_lower(locale)), None):
            for each in (channel, None):
                at = self._variants.get((step, each))
                if at is not None:
                    return at
        return None

    def parsed(self, at: int | None) -> Parsed:
        """Raises `InvalidTemplateVariables`: never for what was checked when it was saved."""
        found = self._parsed.get(at)
        if found is None:
            found = self._parsed[at] = Parsed(self._whole(at), "" if at is None else f"variants.{at}.")
        return found

    def is_parsed(self, at: int | None) -> bool:
        return at in self._parsed

    def meant_for(self, at: int | None) -> tuple[str | None, str | None]:
        """Locale and channel."""
        return (self.default_locale, None) if at is None else (self._all[at].locale, self._all[at].channel)

    def check(self) -> list[str]:
        """Parses everything; the variables that must be given, over all variants, in the order in which they stand.

        Raises `InvalidTemplateVariables` naming every bad field.
        """
        bad: Reasons = {}
        names: dict[str, None] = {}
        for at in (None, *range(len(self._all))):
            try:
                names.update(dict.fromkeys(".".join(each) for each in self.parsed(at).required))
            except InvalidTemplateVariables as error:
                bad.update(error.details["fields"])
        if bad:
            raise InvalidTemplateVariables(fields=bad)
        return list(names)

    def _whole(self, at: int | None) -> TemplateContent:
        """Data speaks to the app, in no language: a variant without data of its own has the default's."""
        if at is None:
            return self._content
        own = self._all[at].content
        data = own.data_template or self._content.data_template
        return TemplateContent(own.title_template, own.body_template, data)


def texts_of(content: TemplateContent) -> Iterator[str]:
    """Every source of it."""
    yield from (text for text in (content.title_template, content.body_template) if text is not None)
    yield from _texts(content.data_template)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _lower(locale: str | None) -> str | None:
    return None if locale is None else locale[:MAX_LOCALE].replace("_", "-").lower()


def _shorter(locale: str | None) -> Iterator[str]:
    while locale:
        yield locale
        locale = locale.rpartition("-")[0]
        if locale[-2:-1] == "-":  # a lone letter only opens what followed it
            locale = locale[:-2]
