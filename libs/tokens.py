"""What a token of each subscription type looks like, and its one normal form: what is equal there is one address."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
import phonenumbers
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from email_validator import EmailNotValidError, validate_email

from libs.errors import InvalidSubscriptionType, InvalidToken

MAX_TOKEN = 8192
"""Characters of any token as it is given."""
HINT = 4
"""Characters that may be shown; of a short token at most half."""

_APNS = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")
"""Hexadecimal bytes, whose number Apple may change."""
_FCM = re.compile(r"[\x21-\x7e]{1,4096}")
"""Opaque printable text."""
_FID = re.compile(r"[A-Za-z0-9_-]{1,256}")
"""A Firebase installation id is base64url; its length is Google's own affair."""
_OPAQUE = re.compile(r"[\x21-\x7e]{1,256}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
"""A name with a top-level domain that is no number: nothing that a resolver could read as an IP address."""
_PRIVATE = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp", ".home")
MAX_PHONE = 64
MAX_ENDPOINT = 2048
_P256DH_BYTES = 65
_AUTH_BYTES = 16


TokenKind = Literal["token", "fid"]
"""FCM knows two kinds of address for a device."""


class _Keys(msgspec.Struct, frozen=True):
    auth: str
    p256dh: str


class _PushSubscription(msgspec.Struct, frozen=True):
    """As a browser's `PushSubscription.toJSON()` gives it (W3C Push API §8)."""

    endpoint: str
    keys: _Keys


_decode = msgspec.json.Decoder(_PushSubscription).decode
_encode = msgspec.json.Encoder().encode


def normalised(kind: str, token: str, token_kind: TokenKind) -> str:
    """Raises `InvalidSubscriptionType`, `InvalidToken`; neither repeats the token."""
    form = _FORMS.get(kind)
    if form is None:
        raise InvalidSubscriptionType(type=kind[:64], supported=list(_FORMS))
    if token_kind == "fid":
        form = _installation if kind == "AndroidPush" else _nothing
    found = form(token) if len(token) <= MAX_TOKEN else None
    if not found:
        raise InvalidToken(type=kind)
    return found


def hint(kind: str, normal: str) -> str:
    """The end of a normalised token, enough to tell two apart."""
    shown = _decode(normal).endpoint if kind == "WebPush" else normal
    return shown[len(shown) - min(HINT, len(shown) // 2) :]


def _nothing(_: str) -> None:
    """An installation id where none exists."""


def _apns(token: str) -> str | None:
    return token.lower() if _APNS.fullmatch(token) else None


def _fcm(token: str) -> str | None:
    return token if _FCM.fullmatch(token) else None


def _installation(token: str) -> str | None:
    return token if _FID.fullmatch(token) else None


def _opaque(token: str) -> str | None:
    return token if _OPAQUE.fullmatch(token) else None


def _email(token: str) -> str | None:
    """Beyond ASCII too (RFC 6531): whether a mail server takes it is known when it is sent."""
    try:
        return validate_email(token, check_deliverability=False, allow_smtputf8=True, strict=True).normalized
    except EmailNotValidError:
        return None


def _phone(token: str) -> str | None:
    """E.164. Needs the country code: without it nobody can tell which country's number it is."""
    if len(token) > MAX_PHONE or not token.startswith("+"):
        return None
    try:
        number = phonenumbers.parse(token)
    except phonenumbers.NumberParseException:
        return None
    if number.extension or not phonenumbers.is_possible_number(number) or not phonenumbers.is_valid_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _web_push(token: str) -> str | None:
    try:
        given = _decode(token)
        url = urlsplit(given.endpoint)
        key, auth = _bytes(given.keys.p256dh), _bytes(given.keys.auth)
        if len(key) != _P256DH_BYTES or len(auth) != _AUTH_BYTES or not _is_public(given.endpoint, url):
            return None
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key)
    except (msgspec.MsgspecError, UnicodeError, ValueError):
        return None
    address = url._replace(scheme="https", netloc=url.netloc.lower()).geturl()
    return _encode(_PushSubscription(address, _Keys(_text(auth), _text(key)))).decode()


def _is_public(endpoint: str, url: SplitResult) -> bool:
    """We call this address: it must not lead to a neighbour of ours. Raises `ValueError` for a port that is none."""
    if len(endpoint) > MAX_ENDPOINT or not endpoint.isascii() or re.search(r"[\s\\\x00-\x20\x7f]", endpoint):
        return False
    host = url.hostname or ""
    named = _HOST.fullmatch(host) is not None and len(host) <= 253 and not host.endswith(_PRIVATE)
    return named and url.scheme == "https" and "@" not in url.netloc and url.port != 0 and not url.fragment


def _bytes(text: str) -> bytes:
    """base64url, padded or not. Raises `ValueError`."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


_FORMS: Mapping[str, Callable[[str], str | None]] = {
    "iOSPush": _apns,
    "AndroidPush": _fcm,
    "WebPush": _web_push,
    "Email": _email,
    "SMS": _phone,
    "KakaoTalk": _phone,
    "InAppMessage": _opaque,
}
