"""Rules of sending as a request may state them. Between services and from storage they are read leniently
(`libs.policy`)."""

from typing import Annotated

from msgspec import Meta

from libs import policy


class QuietHours(policy.QuietHours, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """From `start` until `end` of the recipient's time, over midnight where `end` is the smaller. Critical: pass."""


class OwnQuietHours(policy.QuietHours, frozen=True, omit_defaults=True):
    """A recipient's, as they are answered: clients ignore what a later release adds."""


class FrequencyCap(policy.FrequencyCap, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """At most `limit` messages to one person within `per`. Critical messages pass, and are not counted."""


class Policy(policy.Policy, frozen=True, omit_defaults=True):
    """The settings that decide about messages, as somebody sets them. Other settings are the application's own."""

    quiet_hours: QuietHours | None = None
    frequency_caps: Annotated[tuple[FrequencyCap, ...], Meta(max_length=10)] = ()
