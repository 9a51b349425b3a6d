"""How the requests of one batch share what was taken of a window."""

from hypothesis import given
from hypothesis import strategies as st

from libs.rpc import LeaseRequests
from services.application.limits import shared_out, summed
from services.application.queries_limits import Asked, Taken

REQUESTS = st.lists(
    st.builds(LeaseRequests, st.sampled_from("abc"), st.integers(0, 100), st.integers(0, 100)), min_size=1
)


def test_wants_add_up_and_the_lower_limit_holds() -> None:
    requests = [LeaseRequests("b", 300, 5), LeaseRequests("a", 10, 1), LeaseRequests("b", 200, 7)]
    assert summed(requests) == [Asked("a", 1, 10), Asked("b", 12, 200)]


def test_who_asked_first_is_served_first() -> None:
    requests = [LeaseRequests("a", 10, want) for want in (4, 4, 4)]
    leases = shared_out(requests, {"a": Taken(10, 0, 60_000, 1)})
    assert [lease.granted for lease in leases] == [4, 4, 2]
    assert {(lease.remaining, lease.window_ends_ms, lease.now_ms) for lease in leases} == {(0, 60_000, 1)}


@given(REQUESTS)
def test_what_was_taken_is_given_out_and_no_more(requests: list[LeaseRequests]) -> None:
    asked = summed(requests)
    assert [each.application_id for each in asked] == sorted({request.application_id for request in requests})
    taken = {each.application_id: Taken(min(each.want, each.ceiling), 0, 0, 0) for each in asked}
    leases = shared_out(requests, taken)
    for application_id, each in taken.items():
        own = [(r, lease) for r, lease in zip(requests, leases, strict=True) if r.application_id == application_id]
        assert sum(lease.granted for _, lease in own) == each.granted
        assert all(0 <= lease.granted <= request.want for request, lease in own)
