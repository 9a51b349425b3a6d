"""Verbs of the templating service: define, version, validate, preview and render."""

from typing import Any

import msgspec


class TemplateContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Liquid sources of one variant."""

    title_template: str | None = None
    body_template: str | None = None
    data_template: dict[str, Any] = {}


class Variant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a version says in one locale, on one channel, or both. Fallback: exact locale, language, default."""

    content: TemplateContent
    locale: str | None = None
    """BCP 47, such as `ko` or `en-GB`; None: every locale."""
    channel: str | None = None
    """A subscription type such as `iOSPush`; None: every channel."""


class CreateTemplate(msgspec.Struct, frozen=True):
    """templating.create -> TemplateView; raises validation_error, invalid_template_variables."""

    application_id: str
    name: str
    content: TemplateContent
    actor: str
    description: str | None = None
    default_locale: str | None = None
    variants: list[Variant] = []
    new_id: str | None = None


class UpdateTemplate(msgspec.Struct, frozen=True):
    """templating.update -> TemplateView; raises template_not_found, validation_error, invalid_template_variables.

    Makes a new version. What is None is taken over from the version before.
    """

    application_id: str
    template_id: str
    """Our id or the template's name, here and below."""
    actor: str
    name: str | None = None
    content: TemplateContent | None = None
    description: str | None = None
    default_locale: str | None = None
    variants: list[Variant] | None = None


class GetTemplate(msgspec.Struct, frozen=True):
    """templating.get -> TemplateView; raises template_not_found."""

    application_id: str
    template_id: str
    version: int | None = None
    """None: the current one."""


class ListTemplates(msgspec.Struct, frozen=True):
    """templating.list -> TemplatePage."""

    application_id: str
    is_active: bool | None = None
    limit: int = 20
    offset: int = 0


class ListVersions(msgspec.Struct, frozen=True):
    """templating.versions -> TemplatePage; raises template_not_found. Newest first."""

    application_id: str
    template_id: str
    limit: int = 20
    offset: int = 0


class SetTemplateActive(msgspec.Struct, frozen=True):
    """templating.set_active -> TemplateView; raises template_not_found."""

    application_id: str
    template_id: str
    is_active: bool
    actor: str


class TemplateView(msgspec.Struct, frozen=True):
    id: str
    name: str
    version: int
    is_active: bool
    created_at_ms: int
    updated_at_ms: int
    content: TemplateContent
    description: str | None = None
    default_locale: str | None = None
    variants: list[Variant] = []
    variables: list[str] = []
    """Names that must be given, over all variants: those without a `default` filter."""


class TemplatePage(msgspec.Struct, frozen=True):
    templates: list[TemplateView]
    total: int


class RenderWanted(msgspec.Struct, frozen=True):
    template_id: str
    variables: dict[str, Any] = {}
    locale: str | None = None
    channel: str | None = None
    version: int | None = None


class RenderMany(msgspec.Struct, frozen=True):
    """templating.render -> RenderedMany. Each is rendered or refused on its own: template_not_found,
    template_inactive, missing_required_variable, invalid_template_variables, message_too_large."""

    application_id: str
    wanted: list[RenderWanted]
    preview: bool = False
    """True: a template that is disabled is rendered all the same."""


class Rendered(msgspec.Struct, frozen=True):
    """Either the content, or the fault."""

    template_id: str = ""
    """Our id, even where the name was given."""
    version: int = 0
    locale: str | None = None
    """Of the variant that was taken; None: the default."""
    channel: str | None = None
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] = {}
    fault_code: str | None = None
    fault_details: dict[str, Any] = {}


class RenderedMany(msgspec.Struct, frozen=True):
    results: list[Rendered]
    """In the order asked."""
