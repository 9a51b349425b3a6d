"""Templates: what messages say, kept by version, in several languages and for several channels (REF-001 §5)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from libs.api.fields import Json, Pagination, Paging, SubscriptionType, Time

MAX_VARIANTS = 50

TemplateName = Annotated[str, Meta(min_length=1, max_length=200)]
Source = Annotated[str, Meta(max_length=16_384)]
"""Liquid."""
Description = Annotated[str, Meta(max_length=2_000)]
Locale = Annotated[str, Meta(min_length=2, max_length=35)]
"""BCP 47, such as `ko` or `en-GB`."""
VersionNumber = Annotated[int, Meta(ge=1, le=2_147_483_647)]


class TemplateVariant(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Says it in one locale, on one channel, or both; title or body is needed.

    A recipient gets the variant of the exact locale, else of ever shorter ones (`ko-KR`, `ko`), else of any; within
    each the channel's own before the one for all channels; and where none fits, the template's own texts.
    """

    locale: Locale | None = None
    """Absent: every locale."""
    channel: SubscriptionType | None = None
    """Absent: every channel."""
    title_template: Source | None = None
    body_template: Source | None = None
    data_template: Json | None = None
    """Absent: the template's own."""


class Variant(TemplateVariant, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """As a request states it; the same rules."""


Variants = Annotated[list[Variant], Meta(max_length=MAX_VARIANTS)]


class TemplateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /templates. Title or body is needed."""

    name: TemplateName
    """Unique in the application; calls may use it instead of the id."""
    title_template: Source | None = None
    body_template: Source | None = None
    data_template: Json | None = None
    """Text in it is Liquid, however deep; keys and other values pass as they are."""
    description: Description | None = None
    default_locale: Locale | None = None
    """The language of the texts above."""
    variants: Variants = []


class TemplateChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PUT /templates/{id}: a new version. What is absent stays as it is; null takes it away."""

    name: TemplateName | None = None
    title_template: Source | msgspec.UnsetType | None = msgspec.UNSET
    body_template: Source | msgspec.UnsetType | None = msgspec.UNSET
    data_template: Json | msgspec.UnsetType | None = msgspec.UNSET
    description: Description | msgspec.UnsetType | None = msgspec.UNSET
    default_locale: Locale | msgspec.UnsetType | None = msgspec.UNSET
    variants: Variants | None = None
    """All of them, if given."""


class TemplateQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """GET /templates/{id}."""

    version: VersionNumber | None = None
    """Absent: the current one."""


class TemplatesQuery(Paging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """GET /templates."""

    is_active: bool | None = None


class RenderTestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /templates/{id}/render-test. Nothing of it is kept."""

    variables: Json = {}
    locale: Locale | None = None
    channel: SubscriptionType | None = None
    version: VersionNumber | None = None


class TemplateCreated(msgspec.Struct, frozen=True):
    template_id: str
    name: str
    created_at: Time
    version: int


class TemplateUpdated(msgspec.Struct, frozen=True):
    id: str
    version: int
    updated_at: Time


class TemplateSwitched(msgspec.Struct, frozen=True):
    """Answer to enable and disable."""

    id: str
    is_active: bool
    updated_at: Time


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /templates/{id}."""

    id: str
    name: str
    title_template: str | None
    body_template: str | None
    data_template: Json
    description: str | None
    default_locale: str | None
    variants: list[TemplateVariant]
    variables: list[str]
    """What must be given to render it, over all variants: the names without a `default` filter."""
    created_at: Time
    updated_at: Time
    """Of a version that is not the current one: when it was made."""
    version: int
    is_active: bool
    actor: str
    """Who made this version."""


class TemplateBrief(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    version: int
    is_active: bool
    created_at: Time
    updated_at: Time


class Templates(msgspec.Struct, frozen=True):
    """Oldest first."""

    templates: list[TemplateBrief]
    pagination: Pagination


class TemplateVersion(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    created_at: Time
    actor: str
    """Who made it."""
    variables: list[str]


class TemplateVersions(msgspec.Struct, frozen=True):
    """Newest first."""

    versions: list[TemplateVersion]
    pagination: Pagination


class RenderTested(msgspec.Struct, frozen=True, kw_only=True):
    title: str | None
    body: str | None
    data: Json
    version: int
    locale: str | None
    """Of the variant that was taken; of the template's own texts: its `default_locale`."""
    channel: str | None
