"""Verbs of the templating service: define, version, validate, preview and render.

Wherever a fault's details name `fields`, each has a pair: the kind of reason, as the gateway words it, and its value.
"""

from typing import Any

import msgspec


class TemplateContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Liquid sources of one variant."""

    title_template: str | None = None
    body_template: str | None = None
    data_template: dict[str, Any] = {}
    """Text in it is Liquid, however deep; keys and other values are not."""


class Variant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a version says in one locale, on one channel, or both. One without data has the default content's.

    Fallback: exact locale, ever shorter ones (RFC 4647), any locale; within each, the channel's own before the one for
    all channels; last the default content.
    """

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
    """The language of `content`; None: none in particular."""
    variants: list[Variant] = []
    new_id: str | None = None


class ContentChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is absent stays; null takes it away."""

    title_template: str | msgspec.UnsetType | None = msgspec.UNSET
    body_template: str | msgspec.UnsetType | None = msgspec.UNSET
    data_template: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


class UpdateTemplate(msgspec.Struct, frozen=True, omit_defaults=True):
    """templating.update -> TemplateView; raises template_not_found, validation_error, invalid_template_variables.

    Makes a new version. What is absent is taken over from the version before.
    """

    application_id: str
    template_id: str
    """Our id or the template's name, here and below; where both fit, the id."""
    actor: str
    name: str | None = None
    content: ContentChange = ContentChange()
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    default_locale: str | msgspec.UnsetType | None = msgspec.UNSET
    variants: list[Variant] | None = None
    """All of them; None: those of the version before."""


class GetTemplate(msgspec.Struct, frozen=True):
    """templating.get -> TemplateView; raises template_not_found."""

    application_id: str
    template_id: str
    version: int | None = None
    """None: the current one."""


class ListTemplates(msgspec.Struct, frozen=True):
    """templating.list -> TemplatePage. Oldest first."""

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
    """The latest change; of a version that is not the current one: when it was made."""
    content: TemplateContent
    description: str | None = None
    default_locale: str | None = None
    variants: list[Variant] = []
    variables: list[str] = []
    """Names that must be given, over all variants: those without a `default` filter."""
    actor: str = ""
    """Who made this version."""


class TemplatePage(msgspec.Struct, frozen=True):
    templates: list[TemplateView]
    """Without contents and variants."""
    total: int
    """Exact to 10,000; beyond, 10,001."""


class RenderWanted(msgspec.Struct, frozen=True):
    template_id: str
    variables: dict[str, Any] = {}
    locale: str | None = None
    channel: str | None = None
    version: int | None = None


class RenderMany(msgspec.Struct, frozen=True):
    """templating.render -> RenderedMany; raises validation_error. At most 1,000, each rendered or refused on its own:
    template_not_found, template_inactive, missing_required_variable, invalid_template_variables, message_too_large;
    service_unavailable once the whole request has taken too long."""

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
    """Of the variant that was taken; of the default content: the template's `default_locale`."""
    channel: str | None = None
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] = {}
    fault_code: str | None = None
    fault_details: dict[str, Any] = {}


class RenderedMany(msgspec.Struct, frozen=True):
    results: list[Rendered]
    """In the order asked."""
