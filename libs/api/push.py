"""Push options as a request may state them. In envelopes the same fields are read leniently: what the next release adds
must not stop a sender of this one."""

from libs import envelope


class Button(envelope.Button, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One action button of a push notification."""


class Push(envelope.Push, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Push options of a message (FR-101); all optional."""

    buttons: tuple[Button, ...] = ()
