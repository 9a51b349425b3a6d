"""Logs and metrics. Metric names are one list, so that the type checker refuses typos; label values are enums."""

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

CounterName = Literal[
    "http_requests_total",  # requests answered, by route template and status
    "messages_accepted_total",  # messages whose acceptance was committed
    "messages_refused_total",  # messages refused at the gateway, by error code
    "deliveries_total",  # provider answers, by channel, provider and outcome
    "retries_total",  # next attempts scheduled, by retry class
    "outcome_unknown_total",  # provider calls that ended without an answer
    "events_appended_total",  # facts recorded, by kind; a repetition counts again
    "unknown_messages_total",  # facts about ids that are not in the log
    "dead_letters_total",  # what could not be processed, by stream
    "reconciled_total",  # messages handed off again because they were lost
    "due_claimed_total",  # due messages handed off, by reason
    "events_published_total",  # committed events put on EVENTS
    "background_failures_total",  # rounds of a background loop that failed and will be repeated
]
GaugeName = Literal[
    "consumer_pending",  # envelopes waiting, by stream
    "relay_lag_seconds",  # age of the oldest committed event not yet on EVENTS
    "handoffs_open",  # hand-offs not yet known to be through
    "due_waiting",  # rows in due
    "weeks_ahead",  # weekly tables of the log that are ready beyond the present week: below 2 somebody must look
    "oldest_week_days",  # days since the oldest week of the log that is not put away began
    "applications_waiting",  # applications with hand-offs beyond their window, by lane
    "region_taken_over",  # 1 while this sender serves another region, by channel and region
    "unserved_pending",  # envelopes for a region without a sender that lives, by channel and region
    "breaker_open",  # applications whose way to a provider is paused, by channel
    "breaker_waiting",  # messages that wait for a breaker to close, by channel
    "rate_limit",  # an application's knob, messages a second by channel; 0: none. Of the busiest that are paced
    "rate_effective",  # what it may send now: less than its knob after a 429
    "rate_achieved",  # what this process sends for it
    "calls_without_answer",  # provider calls that got slow, by channel and lane
]
HistogramName = Literal[
    "delivery_duration_seconds",  # one provider call
    "http_request_duration_seconds",  # one HTTP request, by route template
    "transaction_seconds",  # one database transaction, by name
]

_COUNTERS: dict[str, Counter] = {}
_GAUGES: dict[str, Gauge] = {}
_HISTOGRAMS: dict[str, Histogram] = {}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def counter(name: CounterName, **labels: str) -> Counter:
    """The pre-bound child for these label values; keep it, a look-up costs more than an increment."""
    found = _COUNTERS.get(name)
    if found is None:
        found = _COUNTERS[name] = Counter(f"automata_{name}", name, tuple(sorted(labels)), registry=REGISTRY)
    return found.labels(**labels) if labels else found


def gauge(name: GaugeName, **labels: str) -> Gauge:
    found = _GAUGES.get(name)
    if found is None:
        found = _GAUGES[name] = Gauge(f"automata_{name}", name, tuple(sorted(labels)), registry=REGISTRY)
    return found.labels(**labels) if labels else found


def forget(name: GaugeName, **labels: str) -> None:
    """For gauges with a bounded choice of label values: this one is no longer of it."""
    _GAUGES[name].remove(*(labels[label] for label in sorted(labels)))


def histogram(name: HistogramName, **labels: str) -> Histogram:
    found = _HISTOGRAMS.get(name)
    if found is None:
        found = Histogram(f"automata_{name}", name, tuple(sorted(labels)), buckets=_BUCKETS, registry=REGISTRY)
        _HISTOGRAMS[name] = found
    return found.labels(**labels) if labels else found


def logger(name: str) -> Any:
    return structlog.get_logger(name)


def configure_logging(service: str, version: str, level: int = logging.INFO) -> None:
    """JSON lines on standard error: `timestamp level event service version …`."""

    def stamp(_: Any, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
        event["service"], event["version"] = service, version
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            stamp,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
