"""Hypothesis strategies for the events of one message."""

from hypothesis import strategies as st

from libs.message import KINDS, RECEIPT_TIMEOUT, Event

MESSAGE_ID = "019a0000-0000-7000-8000-000000000001"
EPOCH_MS = 1_767_225_600_000


def event_sets() -> st.SearchStrategy[list[Event]]:
    """Events with distinct identities, as the log keeps them: few keys and times, so that ties are common."""
    event = st.builds(
        Event,
        message_id=st.just(MESSAGE_ID),
        kind=st.sampled_from(KINDS),
        attempt=st.integers(0, 3),
        key=st.sampled_from(["", "a", "b", "ß", "Z"]),
        occurred_at_ms=st.integers(EPOCH_MS, EPOCH_MS + 3),
        reason=st.sampled_from([None, "unregistered", RECEIPT_TIMEOUT]),
    )
    return st.lists(event, min_size=1, max_size=12, unique_by=lambda e: (e.kind, e.attempt, e.key))
