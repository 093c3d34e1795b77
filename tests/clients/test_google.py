"""Google's API client: its `BatchHttpRequest`, of a service that is described by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httplib2
import pytest
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError

from .conftest import Services

ANIMAL = {
    "id": "Animal",
    "type": "object",
    "properties": {
        "id": {"type": "integer", "format": "int32"},
        "name": {"type": "string"},
        "note": {"type": "string"},
        "boss": {"type": "integer", "format": "int32"},
    },
}
ANIMALS = {
    "id": "AnimalList",
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"$ref": "Animal"}}},
}


def method(verb: str, path: str, *, takes: bool = False, gives: str | None = "Animal") -> Any:
    """One method of the description."""
    described: dict[str, Any] = {"id": f"farm.animals.{verb}", "path": path, "httpMethod": verb}
    if "{id}" in path:
        described["parameters"] = {"id": {"type": "integer", "required": True, "location": "path"}}
        described["parameterOrder"] = ["id"]
    if takes:
        described["request"] = {"$ref": "Animal"}
    if gives is not None:
        described["response"] = {"$ref": gives}
    return described


def described(root: str) -> dict[str, Any]:
    """The service as a discovery document."""
    return {
        "kind": "discovery#restDescription",
        "id": "farm:v1",
        "name": "farm",
        "version": "v1",
        "title": "A farm",
        "protocol": "rest",
        "rootUrl": f"{root}/",
        "servicePath": "farm/v1/",
        "batchPath": "batch/farm/v1",
        "parameters": {"alt": {"type": "string", "default": "json", "location": "query"}},
        "schemas": {"Animal": ANIMAL, "AnimalList": ANIMALS},
        "resources": {
            "animals": {
                "methods": {
                    "list": method("GET", "animals", gives="AnimalList"),
                    "get": method("GET", "animals/{id}"),
                    "insert": method("POST", "animals", takes=True),
                    "patch": method("PATCH", "animals/{id}", takes=True),
                    "delete": method("DELETE", "animals/{id}", gives=None),
                }
            }
        },
    }


@pytest.fixture
def farm(services: Services) -> Iterator[Any]:
    """The client."""
    http = httplib2.Http(proxy_info=None)
    with build_from_document(described(services.url), http=http) as farm:
        yield farm


class Replies(dict[str, Any]):
    """What the client's callback was given, by the id of the request."""

    def __call__(self, number: str, reply: Any, error: HttpError | None) -> None:
        assert number not in self
        self[number] = reply if error is None else error


def test_reads_and_writes_in_one_batch(farm, services):
    replies = Replies()
    batch = farm.new_batch_http_request(callback=replies)
    batch.add(farm.animals().insert(body={"name": "Grace", "note": "a cat"}))
    batch.add(farm.animals().patch(id=1, body={"note": "second"}))
    batch.add(farm.animals().get(id=1), request_id="own: + ü")
    batch.add(farm.animals().list())
    batch.execute()
    assert list(replies) == ["1", "2", "own: + ü", "3"]
    assert replies["1"]["name"] == "Grace"
    assert replies["2"] == replies["own: + ü"]
    assert replies["2"]["note"] == "second"
    assert [animal["name"] for animal in replies["3"]["items"]] == ["Ada", "Grace"]
    assert services.names() == ["Ada", "Grace"]
    assert services.note("Ada") == "second"


def test_deletions(farm, services):
    services.query("INSERT INTO record (id, name) VALUES (2, 'Grace')")
    replies = Replies()
    batch = farm.new_batch_http_request(callback=replies)
    batch.add(farm.animals().delete(id=2))
    batch.add(farm.animals().delete(id=2))
    batch.execute()
    assert replies["1"] == ""
    assert replies["2"].status_code == 404
    assert services.names() == ["Ada"]


def test_failures_stop_nothing(farm, services):
    replies = Replies()
    batch = farm.new_batch_http_request(callback=replies)
    batch.add(farm.animals().insert(body={"name": "Ada"}))
    batch.add(farm.animals().insert(body={"name": "Grace"}))
    batch.add(farm.animals().get(id=99))
    batch.execute()
    assert (replies["1"].status_code, replies["3"].status_code) == (409, 404)
    assert replies["1"].reason == "UNIQUE constraint failed: record.name"
    assert replies["2"]["name"] == "Grace"
    assert services.names() == ["Ada", "Grace"]


def test_text_beyond_ascii(farm, services):
    """The client escapes it; the service does not."""
    replies = Replies()
    batch = farm.new_batch_http_request(callback=replies)
    batch.add(farm.animals().insert(body={"name": "Größe", "note": "好 – 😀"}))
    batch.add(farm.animals().list())
    batch.execute()
    assert (replies["1"]["name"], replies["1"]["note"]) == ("Größe", "好 – 😀")
    assert replies["2"]["items"][1] == replies["1"]
    assert services.note("Größe") == "好 – 😀"


def test_credentials_that_are_refreshed(services):
    """The client sends those requests again, as another batch, that were answered with 401."""
    refreshed = []

    def refresh(request: object, scopes: object) -> tuple[str, datetime]:
        refreshed.append("fresh")
        return "fresh", datetime.max

    credentials = Credentials("stale", refresh_handler=refresh)
    http = AuthorizedHttp(credentials, http=httplib2.Http(proxy_info=None))
    arrived = len(services.log())
    replies = Replies()
    with build_from_document(described(services.url), http=http) as farm:
        batch = farm.new_batch_http_request(callback=replies)
        batch.add(farm.animals().insert(body={"name": "Grace"}))
        batch.add(farm.animals().get(id=1))
        batch.execute()
    assert refreshed == ["fresh"]
    assert (replies["1"]["name"], replies["2"]["name"]) == ("Grace", "Ada")
    assert services.names() == ["Ada", "Grace"]
    assert len(services.log()) == arrived + 4


def test_a_batch_that_is_refused(farm, services):
    """It has too many requests."""
    batch = farm.new_batch_http_request()
    for number in range(21):
        batch.add(farm.animals().insert(body={"name": str(number)}))
    with pytest.raises(HttpError) as raised:
        batch.execute()
    assert raised.value.status_code == 413
    assert b"Limits.max_requests" in raised.value.content
    assert services.names() == ["Ada"]


def test_a_path_of_another_service(farm, services):
    """A batch reaches what the client could reach by itself: no more is filtered here."""
    replies = Replies()
    batch = farm.new_batch_http_request(callback=replies)
    request = farm.animals().get(id=1)
    request.uri = f"{services.url}/v1.0/me"
    batch.add(request)
    batch.execute()
    assert replies["1"]["displayName"] == "Ada"
