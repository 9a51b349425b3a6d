"""Client SDK of the REST API: the same operations, synchronous (`Client`) and asynchronous (`AsyncClient`).

    client = Client("https://signal.example.com/api/v1", api_key)
    sent = client.messages.send(MessageBody(subscription_id=device, title="Hello"))
    for message in client.pages(client.messages.list, MessageQuery(status="failed")):
        ...

Bodies, queries and answers are the structs of `libs.api`. What fails for a moment is tried again, with growing pauses;
a POST carries an Idempotency-Key, so that its repetition is no second message. Refusals are raised as `ApiError`.
"""

from libs.client.clients import AsyncClient, Client
from libs.client.errors import ApiError, Unreachable
from libs.client.receipts import ReceiptQueue
from libs.client.retry import Retries

__all__ = ["ApiError", "AsyncClient", "Client", "ReceiptQueue", "Retries", "Unreachable"]
