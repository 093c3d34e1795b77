"""msgraph-core, Microsoft's client of Graph for Python."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.request import Request

import httpx
import pytest
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import (
    ParseNodeFactoryRegistry,
    SerializationWriterFactoryRegistry,
)
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from kiota_serialization_json.json_serialization_writer_factory import (
    JsonSerializationWriterFactory,
)
from msgraph_core import BaseGraphRequestAdapter
from msgraph_core.graph_client_factory import GraphClientFactory
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_content_collection import (
    BatchRequestContentCollection,
)
from msgraph_core.requests.batch_request_item import BatchRequestItem
from msgraph_core.requests.batch_response_content import BatchResponseContent

from . import PNG
from .conftest import Services

JSON = "application/json"


@pytest.fixture(autouse=True)
def json_of_kiota() -> None:
    """What the generated client would register."""
    ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES[JSON] = JsonParseNodeFactory()
    writers = SerializationWriterFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES
    writers[JSON] = JsonSerializationWriterFactory()


def item(
    services: Services, method: Method, path: str, number: str, *after: str, **document: Any
) -> BatchRequestItem:
    """A request as a generated client makes one, with an absolute URL."""
    request = RequestInformation()
    request.http_method = method
    request.url = f"{services.url}/v1.0{path}"
    request.headers = HeadersCollection()
    if document:
        request.headers.add("Content-Type", JSON)
        request.content = json.dumps(document).encode()
    return BatchRequestItem(request, number, list(after))


def sent(
    services: Services, content: BatchRequestContent | BatchRequestContentCollection
) -> BatchResponseContent:
    """The reply to a batch."""

    async def post() -> BatchResponseContent:
        transport = httpx.AsyncHTTPTransport(trust_env=False)
        plain = httpx.AsyncClient(transport=transport, trust_env=False)
        http = GraphClientFactory.create_with_default_middleware(client=plain)
        async with transport:  # which the client, wrapped in middleware, would leave open
            adapter = BaseGraphRequestAdapter(AnonymousAuthenticationProvider(), http_client=http)
            adapter.base_url = f"{services.url}/v1.0"
            return await BatchRequestBuilder(adapter).post(content)

    return asyncio.run(post())


def batch(services: Services, *items: BatchRequestItem) -> BatchResponseContent:
    return sent(services, BatchRequestContent({each.id: each for each in items}))


def body(replies: BatchResponseContent, number: str) -> Any:
    stream = replies.get_response_stream_by_id(number)
    return json.loads(stream.read())


def test_reads_and_writes(services):
    replies = batch(
        services,
        item(services, Method.GET, "/me", "1"),
        item(services, Method.PATCH, "/me", "2", note="second"),
        item(services, Method.POST, "/users", "3", displayName="Größe", note="好"),
        item(services, Method.GET, "/users", "4"),
    )
    assert replies.get_response_status_codes() == {"1": 200, "2": 204, "3": 201, "4": 200}
    assert body(replies, "1")["note"] == "first"
    assert body(replies, "3")["displayName"] == "Größe"
    assert [user["note"] for user in body(replies, "4")["value"]] == ["second", "好"]
    assert replies.get_response_by_id("1").content_type == JSON
    assert services.names() == ["Ada", "Größe"]


def test_what_depends_on_a_failure_does_not_run(services):
    """The client writes `depends_on`, where the format has `dependsOn`."""
    replies = batch(
        services,
        item(services, Method.POST, "/users", "bad", displayName="Ada"),
        item(services, Method.POST, "/users", "after bad", "bad", displayName="Grace"),
        item(services, Method.POST, "/users", "good", displayName="Linus"),
        item(services, Method.POST, "/users", "after good", "good", displayName="Guido"),
    )
    assert replies.get_response_status_codes() == {
        "bad": 409,
        "after bad": 424,
        "good": 201,
        "after good": 201,
    }
    assert body(replies, "bad")["error"]["message"] == "UNIQUE constraint failed: record.name"
    assert services.names() == ["Ada", "Linus", "Guido"]


def test_a_reference_to_what_was_made(services):
    report = item(services, Method.POST, "/users", "report", "boss", displayName="Linus")
    report.url = "/$boss/Reports"
    boss = item(services, Method.POST, "/users", "boss", displayName="Grace")
    replies = batch(services, boss, report)
    assert replies.get_response_status_codes() == {"boss": 201, "report": 201}
    assert body(replies, "report")["boss"] == body(replies, "boss")["id"]


@pytest.mark.filterwarnings(  # its own use of `re.sub`, since Python 3.13
    "ignore:'count' is passed as positional argument:DeprecationWarning"
)
def test_urls_as_the_client_makes_them_shorter(services):
    short, token = (item(services, Method.GET, "/me", number) for number in "12")
    short.set_url(f"{services.url}/v1.0/me?$select=displayName")
    token.set_url("/users/me-token-to-replace/Reports")
    replies = batch(services, short, token)
    assert replies.get_response_status_codes() == {"1": 200, "2": 200}
    assert body(replies, "1")["displayName"] == "Ada"


def test_an_image(services):
    """It is base64, which this version of the client leaves to the application."""
    replies = batch(services, item(services, Method.GET, "/me/photo/$value", "1"))
    assert replies.get_response_by_id("1").content_type == "image/png"
    assert base64.urlsafe_b64decode(replies.get_response_stream_by_id("1").read()) == PNG


def test_a_request_of_urllib(services):
    request = Request(
        f"{services.url}/v1.0/users",
        data=b'{"displayName": "Grace"}',
        headers={"Content-Type": JSON, "client-request-id": "7"},
    )
    content = BatchRequestContent()
    content.add_urllib_request(request, "1")
    replies = sent(services, content)
    assert set(replies.get_response_status_codes().values()) == {201}
    assert services.names() == ["Ada", "Grace"]


def test_a_collection_of_batches(services):
    """More than 20 requests are several batches."""
    content = BatchRequestContentCollection()
    for number in range(25):
        content.add_batch_request_item(
            item(services, Method.POST, "/users", f"{number}", displayName=f"user {number}")
        )
    replies = sent(services, content)
    statuses = [one.get_response_status_codes() for one in replies.get_responses()]
    assert [len(each) for each in statuses] == [20, 5]
    assert {status for each in statuses for status in each.values()} == {201}
    assert len(services.names()) == 26


def test_a_batch_that_is_refused(services):
    wrong = item(services, Method.POST, "/users", "1", displayName="Grace")
    wrong.headers = {"X-Unknown": "1"}
    with pytest.raises(APIError) as raised:
        batch(services, wrong)
    assert raised.value.response_status_code == 400
    assert services.names() == ["Ada"]
