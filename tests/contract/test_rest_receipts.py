"""POST /messages/{id}/status and /convert (REF-001 §4.4, §4.5)."""

import pytest

from libs import ids, rpc
from tests.contract.rest_gateway import CREATED, OWNER, Rest
from tests.contract.test_rest_messages import view

pytest_plugins = ["tests.contract.rest_fixtures"]


@pytest.fixture
def message(rest: Rest) -> str:
    message = ids.new_id()
    rest.platform.views[OWNER, message] = view(message)
    return message


async def test_received(rest: Rest, message: str) -> None:
    answer = await rest.post(f"/messages/{message.upper()}/status", {"status": "received"})
    assert (answer.status, answer.data) == (200, {"id": message, "status": "received", "received_at": CREATED})
    assert rest.platform.receipts == [rpc.Receipt(OWNER, message, "received", "key:k1")]


async def test_converted(rest: Rest, message: str) -> None:
    body = {"action": "clicked_button", "data": {"button_id": "confirm"}}
    answer = await rest.post(f"/messages/{message}/convert", body)
    assert (answer.status, answer.data) == (200, {"id": message, "status": "converted", "converted_at": CREATED})
    assert rest.platform.receipts == [
        rpc.Receipt(OWNER, message, "converted", "key:k1", "clicked_button", {"button_id": "confirm"})
    ]


async def test_action_may_be_left_out(rest: Rest, message: str) -> None:
    assert (await rest.post(f"/messages/{message}/convert", {})).status == 200
