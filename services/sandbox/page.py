"""The page that shows what arrived. Everything a sender gave is escaped here; the script only inserts ready rows."""

from html import escape
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

from services.sandbox.deliveries import Kept
from services.sandbox.ledger import Ledger

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SHOWN = 200
"""Rows on the page at one time."""


class _Shown(Struct):
    provider: str
    token: str
    message_id: str | None
    headers: dict[str, str]
    payload: msgspec.Raw
    received_at: str
    accepted: bool
    reason: str | None = None


_decode = msgspec.json.Decoder(_Shown).decode


def asset(name: str) -> str:
    """A file of the page, read from the package."""
    return files("services.sandbox").joinpath(name).read_text("utf-8")


def render_page(ledger: Ledger, kept: list[Kept]) -> str:
    page = asset("page.html")
    return page.replace("<!-- counts -->", render_counts(ledger)).replace("<!-- rows -->", render_rows(kept))


def render_counts(ledger: Ledger) -> str:
    cells = []
    for name in ("apns", "fcm"):
        tally = ledger.tallies[name]
        refused = sum(tally.rejected.values())
        cells.append(
            f"<tr><th scope=row>{name}</th><td>{tally.requests}</td><td>{tally.accepted}</td>"
            f"<td>{refused}</td><td>{tally.accepted_more_than_once}</td></tr>"
        )
    return "".join(cells)


def render_rows(kept: list[Kept]) -> str:
    """Table rows, newest first."""
    return "".join(_row(item) for item in reversed(kept))


def _row(kept: Kept) -> str:
    shown = _decode(kept.text)
    if shown.reason is None:
        result, style = "accepted", "ok"
    else:
        result, style = shown.reason, "no"
    headers = "\n".join(f"{name}: {value}" for name, value in shown.headers.items())
    payload = msgspec.json.format(bytes(shown.payload), indent=2).decode("utf-8", "replace")
    return (
        f'<tr data-number="{kept.number}"><td><time>{escape(shown.received_at[11:23])}</time></td>'
        f"<td>{escape(shown.provider)}</td><td class={style}>{escape(result)}</td>"
        f"<td>{escape(_title(payload))}</td>"
        f'<td title="{escape(shown.token)}"><code>{escape(shown.token[:20])}</code></td>'
        f"<td><details><summary><code>{escape(shown.message_id or '–')}</code></summary>"
        f"<pre>{escape(headers)}</pre><pre>{escape(payload)}</pre></details></td></tr>"
    )


def _title(payload: str) -> str:
    """What a person would see: APNs' alert or FCM's notification."""
    body: Any = msgspec.json.decode(payload)
    for path in (("aps", "alert"), ("message", "notification"), ("message", "android", "notification")):
        found: Any = body
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict):
            found = " · ".join(str(found[key]) for key in ("title", "body") if key in found)
        if found:
            return str(found)[:120]
    return ""
