"""@odata/client, of OData 2 and 4, in node: batches as multipart and as JSON."""

from __future__ import annotations

from functools import partial

import pytest

# What the client sends depends on the version, and on the format of the batch.
WAYS = {
    "v2-multipart": ("v2", "multipart"),
    "v4-multipart": ("v4", "multipart"),
    "v4-json": ("v4", "json"),
}


@pytest.fixture(params=WAYS)
def way(request) -> tuple[str, str]:
    return WAYS[request.param]


@pytest.fixture
def batch(node, way):
    """Send one batch, and return what the client makes of each reply."""
    return partial(node, "odata_client.js", "batch", *way)


@pytest.fixture
def batch_json(node):
    return partial(node, "odata_client.js", "batch", "v4", "json")


def get(number=None, **more):
    return {"collection": "Employees", "method": "GET", "id": number, **more}


def post(name, collection="Employees", **more):
    return {"collection": collection, "method": "POST", "entity": {"Name": name}} | more


def found(reply, way):
    """The entity in a reply, as this version has it."""
    return reply["json"]["d"] if way[0] == "v2" else reply["json"]


def test_reads_and_writes(batch, way, services):
    patch = {"collection": "Employees", "method": "PATCH", "id": 1, "entity": {"Note": "好"}}
    created, patched, ada, missing, deleted = batch(
        [
            post("Größe"),
            patch,
            get(1),
            get(99),
            {"collection": "Employees", "method": "DELETE", "id": 1},
        ]
    )
    statuses = [each["status"] for each in (created, patched, ada, missing, deleted)]
    assert statuses == [201, 204, 200, 404, 204]
    assert found(created, way)["Name"] == "Größe"
    assert found(ada, way)["Note"] == "好"
    assert "There is no record 99." in missing["text"]
    assert created["headers"]["Content-Type"] == "application/json"
    assert services.names() == ["Größe"]


def test_a_write_that_fails(batch, way, services):
    """In multipart each write of this client is a change set of its own."""
    failed, created = batch([post("Ada"), post("Grace")])
    assert (failed["status"], created["status"]) == (409, 201)
    assert "UNIQUE constraint failed: record.name" in failed["text"]
    assert services.names() == ["Ada", "Grace"]


def test_texts_of_a_status(batch, way):
    [missing] = batch([get(99)])
    assert missing.get("statusText") == ("Not Found" if way[1] == "multipart" else None)


def test_a_batch_that_stops(batch, services):
    failed, stopped = batch([post("Ada"), post("Grace")], {"Prefer": "continue-on-error=false"})
    assert (failed["status"], stopped["status"]) == (409, 424)
    assert services.names() == ["Ada"]


def test_a_group_is_committed(batch_json, services):
    replies = batch_json([post(name, atomicityGroup="g") for name in ("Grace", "Linus")])
    assert [reply["status"] for reply in replies] == [201, 201]
    assert services.names() == ["Ada", "Grace", "Linus"]


def test_a_group_that_fails_is_rolled_back(batch_json, services):
    replies = batch_json(
        [
            post("Grace", atomicityGroup="g"),
            post("Ada", atomicityGroup="g"),
            post("Linus", atomicityGroup="g"),
            post("Guido"),
            post("Barbara", dependsOn=["g"]),
        ]
    )
    assert [reply["status"] for reply in replies] == [424, 409, 424, 201, 424]
    problems = [replies[index]["json"]["type"].rpartition(":")[2] for index in (0, 2, 4)]
    assert problems == ["rolled-back", "stopped", "dependency-failed"]
    assert services.names() == ["Ada", "Guido"]


def test_a_commit_that_fails(batch_json, services):
    replies = batch_json(
        [
            post("Grace", atomicityGroup="g"),
            post("Linus", "Employees(99)/Reports", atomicityGroup="g"),
        ]
    )
    assert [reply["status"] for reply in replies] == [424, 424]
    assert services.names() == ["Ada"]


def test_a_reference_to_what_was_made(batch_json, services):
    """Without ids of one's own the client numbers the requests from 0."""
    boss, report, seen = batch_json(
        [
            post("Grace", requestId="boss"),
            post("Linus", "$boss/Reports", dependsOn=["boss"]),
            {"collection": "$1", "method": "GET"},
        ]
    )
    assert [boss["status"], report["status"], seen["status"]] == [201, 201, 200]
    assert report["json"]["Boss"] == boss["json"]["Id"]
    assert seen["json"] == report["json"]


def test_a_reference_in_a_group_that_is_rolled_back(batch_json, services):
    replies = batch_json(
        [
            post("Grace", requestId="boss", atomicityGroup="g"),
            post("Linus", "$boss/Reports", atomicityGroup="g"),
            post("Ada", "$boss/Reports", atomicityGroup="g"),
        ]
    )
    assert [reply["status"] for reply in replies] == [424, 424, 409]
    assert services.names() == ["Ada"]


def test_a_batch_that_is_refused(batch_json, services):
    batch_json([post("Grace"), post("Linus", dependsOn=["nobody"])])
    assert services.names() == ["Ada"]


def test_a_gateway_of_sap(node, services):
    """The client fetches a token, and writes a `Content-Length` into each request, a wrong one."""
    made, ada = node(
        "odata_client.js",
        "batch",
        "sap-gateway",
        "multipart",
        [post("Größe", entity={"Name": "Größe", "Note": "some words"}), get(1)],
    )
    assert [made["status"], ada["status"]] == [201, 200]
    assert made["json"]["d"]["Name"] == "Größe"
    assert services.names() == ["Ada", "Größe"]
