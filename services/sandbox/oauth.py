"""Google's OAuth token endpoint for service accounts, and the access tokens it hands out.

Source: RFC 7523 and "Using OAuth 2.0 for Server to Server Applications". Access tokens are signed with a key kept in
the data directory, so that they outlive a restart of the sandbox, as Google's outlive ours.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import msgspec
from msgspec import Struct

from services.sandbox.credentials import write_private
from services.sandbox.exchange import Reply, Request, Verdict
from services.sandbox.tenants import Tenants

PATH = "/token"
LIFE = 3599
"""Seconds an access token lives; Google's own number."""
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth writes as `aud` whatever the account's token_uri is; Google takes it, so we do beside our own."""
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
SKEW = 300.0
MAX_ASSERTION_LIFE = 3600
MAX_TOKENS = 4096
MAX_TOKEN_LENGTH = 8192
PREFIX = "ya29."

_JSON = ("content-type", "application/json; charset=utf-8")


class Grant(Struct, frozen=True, gc=False):
    project_id: str
    expires_at: float


class Refusal(Exception):
    """An OAuth error: `code` as in RFC 6749 §5.2, and a text."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


class OAuth:
    """Issues access tokens for signed assertions, and recognises them."""

    def __init__(self, tenants: Tenants, key_file: Path, clock: Callable[[], float]) -> None:
        if not key_file.exists():
            write_private(key_file, secrets.token_hex(32))
        self._key = key_file.read_text()
        self._tenants = tenants
        self._clock = clock
        self._known: dict[str, Grant | None] = {}

    def grant(self, authorization: str | None) -> Grant | None:
        """What a bearer token allows; None if it was not issued here or has expired."""
        if not authorization:
            return None
        if authorization in self._known:
            found = self._known[authorization]
        else:
            found = self._read(authorization)
            if len(self._known) >= MAX_TOKENS:
                del self._known[next(iter(self._known))]
            self._known[authorization] = found
        return found if found is not None and found.expires_at > self._clock() else None

    def judge(self, request: Request) -> Verdict:
        """Answer a request to the token endpoint. The verdict's token is the account's e-mail address, once known."""
        email = ""
        try:
            if request.method != "POST":
                raise Refusal("invalid_request", "Use POST.", 405)
            assertion = _assertion(request.body)
            email = _issuer(assertion)
            project_id = self._check(assertion, email, f"https://{request.authority}{PATH}")
        except Refusal as refusal:
            reply = self.refusal(refusal.status, refusal.code, refusal.text)
            return Verdict("oauth", email, reply, refusal.code)
        body = {"access_token": self._issue(email, project_id), "expires_in": LIFE, "token_type": "Bearer"}
        return Verdict("oauth", email, Reply(200, [_JSON], msgspec.json.encode(body)))

    def refusal(self, status: int, code: str, text: str) -> Reply:
        return Reply(status, [_JSON], msgspec.json.encode({"error": code, "error_description": text}))

    def _check(self, assertion: str, email: str, audience: str) -> str:
        account = self._tenants.service_account(email)
        if account is None and self._tenants.refresh():
            account = self._tenants.service_account(email)
        if account is None:
            raise Refusal("invalid_grant", "Invalid grant: account not found")
        project_id, key = account
        claims = _verify(assertion, key, audience)
        now, issued_at, expires = self._clock(), claims["iat"], claims["exp"]
        if not all(isinstance(moment, int | float) for moment in (issued_at, expires)):
            raise Refusal("invalid_grant", "Invalid JWT: iat and exp must be numbers.")
        if issued_at > now + SKEW or expires < now or expires - issued_at > MAX_ASSERTION_LIFE:
            text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            raise Refusal("invalid_grant", text)
        if not SCOPES.intersection(str(claims.get("scope", "")).split()):
            raise Refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return project_id

    def _issue(self, email: str, project_id: str) -> str:
        expires_at = self._clock() + LIFE
        claims = {"sub": email, "project": project_id, "until": expires_at, "jti": secrets.token_hex(8)}
        return PREFIX + jwt.encode(claims, self._key, "HS256")

    def _read(self, authorization: str) -> Grant | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.startswith(PREFIX) or len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            claims = jwt.decode(token.removeprefix(PREFIX), self._key, algorithms=["HS256"])
        except jwt.PyJWTError:
            return None
        return Grant(claims["project"], claims["until"])


def _assertion(body: bytes) -> str:
    form = parse_qs(body.decode("ascii", "replace"), max_num_fields=20)
    if form.get("grant_type") != [GRANT]:
        raise Refusal("unsupported_grant_type", "Invalid grant_type")
    found = form.get("assertion", [""])[0]
    if not found or len(found) > MAX_TOKEN_LENGTH:
        raise Refusal("invalid_request", "Missing required parameter: assertion")
    return found


def _issuer(assertion: str) -> str:
    try:
        return str(jwt.decode(assertion, options={"verify_signature": False}).get("iss", ""))
    except jwt.PyJWTError:
        raise Refusal("invalid_grant", "Invalid JWT: not a signed JWT.") from None


def _verify(assertion: str, key: Any, audience: str) -> dict[str, Any]:
    options: Any = {"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp", "aud"]}
    try:
        return jwt.decode(assertion, key, algorithms=["RS256"], audience=[audience, GOOGLE_AUDIENCE], options=options)
    except jwt.InvalidAudienceError:
        raise Refusal("invalid_grant", f"Invalid JWT: aud must be {audience}") from None
    except jwt.InvalidSignatureError:
        raise Refusal("invalid_grant", "Invalid JWT Signature.") from None
    except jwt.PyJWTError as error:
        raise Refusal("invalid_grant", f"Invalid JWT: {error}") from None
