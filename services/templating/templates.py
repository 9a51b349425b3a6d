"""Templates as they are kept: made, changed by adding versions, looked up."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from libs import rpc
from libs.errors import TemplateNotFound, ValidationFailed
from libs.ids import is_id, new_id
from libs.pg import Connection, Pool
from services.templating import queries
from services.templating.content import Version, texts_of
from services.templating.queries import Asked, NewVersion

MAX_NAME = 200
MAX_DESCRIPTION = 2000
MAX_VARIANTS = 50
MAX_VERSION = 64 * 1024
"""As `Version.size` counts: that many characters, or a thousand placeholders."""
MAX_DEPTH = 16
MAX_PAGE = 100
EDITS_AT_ONCE = 4
"""They wait for each other with a connection in hand: the rest of the pool is for those who send."""

_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,4}")
_EMPTY = rpc.TemplateContent()

Reasons = dict[str, tuple[str, Any]]


class Templates:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._editing = asyncio.Semaphore(EDITS_AT_ONCE)
        self._parsing = ThreadPoolExecutor(1, "authors")

    async def create(self, request: rpc.CreateTemplate) -> rpc.TemplateView:
        """Raises `ValidationFailed`, `InvalidTemplateVariables`. The same `new_id` again makes nothing again."""
        template_id = request.new_id or new_id()
        new = _Draft(request.name, request.description, request.content, request.default_locale, request.variants)
        _check(request.application_id, new)
        asked = Asked(request.application_id, "", template_id, None)
        async with self._editing:
            variables = await self._variables(new)
            version = new.version(request.application_id, template_id, 1, variables, request.actor)
            async with self._pool.transaction() as c:
                await queries.lock_edits(c, request.application_id)
                if await queries.find_whole(c, asked) is None:
                    await _refuse_taken_name(c, request.application_id, new.name, template_id)
                    await queries.insert_template(c, version, new.name, new.description)
                    await queries.insert_version(c, version)
                return _view(await queries.find_whole(c, asked))

    async def update(self, request: rpc.UpdateTemplate) -> rpc.TemplateView:
        """Raises `TemplateNotFound`, `ValidationFailed`, `InvalidTemplateVariables`."""
        asked = _asked(request.application_id, request.template_id)
        async with self._editing, self._pool.transaction() as c:
            await queries.lock_edits(c, request.application_id)
            old = await queries.find_whole(c, asked)
            if old is None:
                raise TemplateNotFound(id=request.template_id)
            new = _changed(old, request)
            _check(request.application_id, new)
            await _refuse_taken_name(c, request.application_id, new.name, old["id"])
            number = old["version"] + 1
            version = new.version(request.application_id, old["id"], number, await self._variables(new), request.actor)
            await queries.insert_version(c, version)
            await queries.update_template(c, version, new.name, new.description)
            return _view(await queries.find_whole(c, asked._replace(name="", id=old["id"])))

    async def get(self, request: rpc.GetTemplate) -> rpc.TemplateView:
        """Raises `TemplateNotFound`."""
        asked = _asked(request.application_id, request.template_id, request.version)
        async with self._pool.connection() as c:
            found = await queries.find_whole(c, asked)
        if found is None:
            raise TemplateNotFound(id=request.template_id)
        return _view(found)

    async def set_active(self, request: rpc.SetTemplateActive) -> rpc.TemplateView:
        """Raises `TemplateNotFound`."""
        asked = _asked(request.application_id, request.template_id)
        async with self._pool.transaction() as c:
            found = await queries.find_whole(c, asked)
            if found is None:
                raise TemplateNotFound(id=request.template_id)
            await queries.set_active(c, request.application_id, found["id"], request.is_active, request.actor)
            return _view(await queries.find_whole(c, asked._replace(name="", id=found["id"])))

    async def list_all(self, request: rpc.ListTemplates) -> rpc.TemplatePage:
        _check_page(request.limit, request.offset)
        if not is_id(request.application_id):
            return rpc.TemplatePage([], 0)
        async with self._pool.connection() as c:
            rows, total = await queries.list_templates(
                c, request.application_id, request.is_active, request.limit, request.offset
            )
        return rpc.TemplatePage([_view({**row, "content": _EMPTY, "variants": []}) for row in rows], total)

    async def versions(self, request: rpc.ListVersions) -> rpc.TemplatePage:
        """Raises `TemplateNotFound`."""
        _check_page(request.limit, request.offset)
        current = await self.get(rpc.GetTemplate(request.application_id, request.template_id))
        async with self._pool.connection() as c:
            rows = await queries.list_versions(c, request.application_id, current.id, request.limit, request.offset)
        total = min(current.version, queries.MAX_COUNTED + 1)
        return rpc.TemplatePage([_view({**row, "content": _EMPTY, "variants": []}) for row in rows], total)

    async def _variables(self, draft: "_Draft") -> list[str]:
        """In a thread: hundreds of sources take tenths of a second. Raises `InvalidTemplateVariables`."""
        version = Version(draft.content, draft.variants, draft.default_locale)
        if version.size > MAX_VERSION:
            place = "variants" if draft.variants else "data_template"
            raise ValidationFailed(fields={place: ("version_size", None)})
        return await asyncio.get_running_loop().run_in_executor(self._parsing, version.check)


class _Draft(msgspec.Struct, frozen=True):
    """A version that is not kept yet, with what belongs to the template itself."""

    name: str
    description: str | None
    content: rpc.TemplateContent
    default_locale: str | None
    variants: list[rpc.Variant]

    def version(
        self, application_id: str, template_id: str, number: int, variables: list[str], actor: str
    ) -> NewVersion:
        return NewVersion(
            application_id,
            template_id,
            number,
            msgspec.to_builtins(self.content),
            self.default_locale,
            msgspec.to_builtins(self.variants),
            variables,
            actor,
        )


def _changed(old: Mapping[str, Any], request: rpc.UpdateTemplate) -> _Draft:
    content = {**old["content"], **msgspec.to_builtins(request.content)}
    given = {name: value for name, value in content.items() if value is not None}
    unset = msgspec.UNSET
    return _Draft(
        old["name"] if request.name is None else request.name,
        old["description"] if request.description is unset else request.description,
        msgspec.convert(given, rpc.TemplateContent),
        old["default_locale"] if request.default_locale is unset else request.default_locale,
        msgspec.convert(old["variants"], list[rpc.Variant]) if request.variants is None else request.variants,
    )


def _check(application_id: str, draft: _Draft) -> None:
    """What the tables rely on. Raises `ValidationFailed`."""
    bad: Reasons = {}
    if not is_id(application_id):
        bad["application_id"] = ("uuid", None)
    if not draft.name.strip() or "\0" in draft.name:
        bad["name"] = ("required", None)
    elif len(draft.name) > MAX_NAME:
        bad["name"] = ("maxLength", MAX_NAME)
    if draft.description is not None and (len(draft.description) > MAX_DESCRIPTION or "\0" in draft.description):
        bad["description"] = ("maxLength", MAX_DESCRIPTION)
    if draft.default_locale is not None and not _LOCALE.fullmatch(draft.default_locale):
        bad["default_locale"] = ("locale", None)
    if len(draft.variants) > MAX_VARIANTS:
        bad["variants"] = ("maxItems", MAX_VARIANTS)
    bad |= _bad_content(draft.content, "")
    for at, variant in enumerate(draft.variants[:MAX_VARIANTS]):
        bad |= _bad_variant(variant, draft.variants[:at], f"variants.{at}")
    if bad:
        raise ValidationFailed(fields=bad)


def _bad_content(content: rpc.TemplateContent, place: str) -> Reasons:
    bad: Reasons = {}
    if not (content.title_template or content.body_template):
        bad |= {f"{place}{name}": ("title_or_body", None) for name in ("title_template", "body_template")}
    if _too_deep(content.data_template, MAX_DEPTH):
        bad[f"{place}data_template"] = ("depth", MAX_DEPTH)
    elif any("\0" in text for text in texts_of(content)):
        bad[f"{place}body_template"] = ("nul", None)
    return bad


def _bad_variant(variant: rpc.Variant, before: Sequence[rpc.Variant], place: str) -> Reasons:
    bad = _bad_content(variant.content, f"{place}.")
    if variant.locale is None and variant.channel is None:
        bad[f"{place}.locale"] = ("locale_or_channel", None)
    if variant.locale is not None and not _LOCALE.fullmatch(variant.locale):
        bad[f"{place}.locale"] = ("locale", None)
    if _meant_for(variant) in map(_meant_for, before):
        bad[place] = ("repeated", None)
    return bad


def _meant_for(variant: rpc.Variant) -> tuple[str | None, str | None]:
    return variant.locale and variant.locale.replace("_", "-").lower(), variant.channel


def _too_deep(value: Any, room: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return room == 0 or any(_too_deep(item, room - 1) for item in value)


async def _refuse_taken_name(c: Connection, application_id: str, name: str, template_id: str) -> None:
    if await queries.name_is_taken(c, application_id, name, template_id):
        raise ValidationFailed(fields={"name": ("taken", None)})


def _check_page(limit: int, offset: int) -> None:
    if not (1 <= limit <= MAX_PAGE and offset >= 0):
        raise ValidationFailed(fields={"per_page": ("maximum", MAX_PAGE)})


def _asked(application_id: str, template_id: str, version: int | None = None) -> Asked:
    """Raises `TemplateNotFound` for what cannot be a name, nor an id."""
    asked = asked_for(application_id, template_id, version)
    if asked is None:
        raise TemplateNotFound(id=template_id[:MAX_NAME])
    return asked


def asked_for(application_id: str, template_id: str, version: int | None) -> Asked | None:
    """None for what nothing can be called."""
    in_range = version is None or 1 <= version < 2**31
    if not (is_id(application_id) and 1 <= len(template_id) <= MAX_NAME and "\0" not in template_id and in_range):
        return None
    return Asked(application_id, template_id, template_id if is_id(template_id) else None, version)


def _view(row: Mapping[str, Any]) -> rpc.TemplateView:
    return msgspec.convert(dict(row), rpc.TemplateView)
