"""All providers behind one door: judge, meet a fault rule, record, and say what the front must do."""

from collections.abc import Callable
from datetime import UTC, datetime

from services.sandbox import apns, fcm, oauth
from services.sandbox.apns import Apns
from services.sandbox.deliveries import Deliveries
from services.sandbox.exchange import Fate, Outcome, Reply, Request, Verdict
from services.sandbox.faults import ActiveRule, Faults, Rule
from services.sandbox.fcm import Fcm
from services.sandbox.ledger import Ledger
from services.sandbox.oauth import OAuth

MAX_BODY = 1024 * 1024
"""Bytes of a request body the fronts read."""
HTTP2_ONLY = Reply(505, [("content-type", "text/plain")], b"APNs speaks HTTP/2 only\n")
NOT_FOUND = Reply(404, [("content-type", "application/json")], b'{"error":"not found"}')


class Providers:
    """The sandbox's whole behaviour towards a sender, free of I/O with the network."""

    def __init__(
        self,
        judges: tuple[Apns, Fcm, OAuth],
        faults: Faults,
        ledger: Ledger,
        deliveries: Deliveries,
        clock: Callable[[], float],
    ) -> None:
        self._apns, self._fcm, self._oauth = judges
        self.faults = faults
        self.ledger = ledger
        self.deliveries = deliveries
        self._clock = clock

    def receive(self, request: Request) -> Outcome:
        """Handle one request. Quick and synchronous: the front does the waiting."""
        verdict = self.judge(request)
        if isinstance(verdict, Reply):
            return Outcome(verdict)
        return self.conclude(request, verdict)

    def judge(self, request: Request) -> Verdict | Reply:
        """The provider's own verdict, or the bare answer to what is no provider request at all."""
        path = request.path
        if path.startswith("/3/"):
            return self._apns.judge(request) if request.version == "2" else HTTP2_ONLY
        if path.startswith(fcm.PREFIX):
            return self._fcm.judge(request)
        return self._oauth.judge(request) if path == oauth.PATH else NOT_FOUND

    def conclude(self, request: Request, verdict: Verdict) -> Outcome:
        """Let a fault rule have its say, record the request, and name its end."""
        rule = self.faults.meet(verdict.provider, verdict.token)
        if rule is None:
            self._record(request, verdict, verdict.reason, verdict.reason is None)
            return Outcome(verdict.reply)
        fate: Fate = "hang" if rule.hang else "close" if rule.close else "answer"
        reason, reply = verdict.reason, verdict.reply
        if fate != "answer":
            reason = fate
        elif rule.status is not None or rule.reason is not None:
            reason, reply = self._refusal(rule, verdict)
        accepted = verdict.reason is None and (reason is None or rule.accept)
        self._record(request, verdict, reason, accepted)
        return Outcome(reply, rule.latency_ms / 1000, fate)

    def goaway_rule(self, verdict: Verdict) -> ActiveRule | None:
        return self.faults.goaway_rule(verdict.provider, verdict.token)

    def _record(self, request: Request, verdict: Verdict, reason: str | None, accepted: bool) -> None:
        if verdict.dry_run:
            return
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat()
        self.ledger.record(verdict, reason, accepted, at)
        if verdict.provider != "oauth":  # Its body is a credential.
            self.deliveries.record(verdict, request.headers, request.body, at, reason, accepted)

    def _refusal(self, rule: Rule, verdict: Verdict) -> tuple[str, Reply]:
        status = rule.status
        if verdict.provider == "apns":
            reason = rule.reason or apns.USUAL_REASON.get(status or 0, "InternalServerError")
            apns_id = dict(verdict.reply.headers)["apns-id"]
            reply = self._apns.reply(apns_id, reason, status, rule.timestamp)
        elif verdict.provider == "fcm":
            reason = rule.reason or fcm.USUAL_REASON.get(status or 0, "INTERNAL")
            reply = self._fcm.refusal(reason, status)
        else:
            reason = rule.reason or "invalid_grant"
            reply = self._oauth.refusal(status or 400, reason, "fault rule")
        if rule.retry_after is not None:
            reply = Reply(reply.status, [*reply.headers, ("retry-after", str(rule.retry_after))], reply.body)
        return reason, reply
