"""o.js, a client of OData 4, in node: batches as multipart, with and without a change set."""

from __future__ import annotations

from functools import partial

import pytest

RELATIVE = {"useRelativeURLs": True}
CHANGES = {"useChangset": True}


@pytest.fixture
def batch(node):
    """Send one batch, and return what the client makes of it."""
    return partial(node, "o_js.js", "batch")


@pytest.mark.parametrize("config", [{}, RELATIVE], ids=["absolute", "relative"])
def test_reads_and_writes(batch, services, config):
    replies = batch(
        [
            ["post", "Employees", {"Name": "Größe", "Note": "好"}],
            ["patch", "Employees(1)", {"Note": "second"}],
            ["get", "Employees(1)"],
            ["get", "Employees"],
            ["get", "Employees?$filter=Name eq 'Größe'"],
            ["get", "Employees(99)"],
            ["delete", "Employees(1)"],
        ],
        config,
    )
    assert [reply["contentId"] for reply in replies] == [1, 2, 3, 4, 5, 6, 7]
    assert [reply["status"] for reply in replies] == [201, 204, 200, 200, 200, 404, 204]
    bodies = [reply.get("body") for reply in replies]
    assert bodies[0]["Name"] == "Größe"
    assert bodies[2]["Note"] == "second"
    assert [employee["Name"] for employee in bodies[3]] == ["Ada", "Größe"]
    assert [employee["Note"] for employee in bodies[4]] == ["好"]
    assert bodies[5]["error"]["message"] == "There is no record 99."
    assert services.names() == ["Größe"]


@pytest.mark.parametrize("config", [{}, RELATIVE], ids=["absolute", "relative"])
def test_a_change_set_is_committed(batch, services, config):
    replies = batch(
        [
            ["post", "Employees", {"Name": "Grace"}],
            ["patch", "Employees(1)", {"Note": "好"}],
        ],
        CHANGES | config,
    )
    assert [reply["status"] for reply in replies] == [201, 204]
    assert replies[0]["body"]["Name"] == "Grace"
    assert services.names() == ["Ada", "Grace"]
    assert services.note("Ada") == "好"


def test_a_change_set_of_one(batch, services):
    """Its one reply has no body, which is the least that the client tells from a plain reply."""
    [patched] = batch([["patch", "Employees(1)", {"Note": "second"}]], CHANGES)
    assert patched["status"] == 204
    assert services.note("Ada") == "second"


def test_a_change_set_that_fails_is_rolled_back(batch, services):
    arrived = len(services.log())
    [failed] = batch(
        [["post", "Employees", {"Name": name}] for name in ("Grace", "Ada", "Linus")],
        CHANGES,
    )
    assert failed["status"] == 409
    assert failed["body"]["error"]["message"] == "UNIQUE constraint failed: record.name"
    assert services.names() == ["Ada"]
    assert services.log()[arrived:] == ["POST /odata/Employees in a batch"] * 2


def test_reads_beside_a_change_set(batch, services):
    """The client writes them behind the change set's end, where by RFC 2046 nothing is read."""
    arrived = len(services.log())
    [made] = batch(
        [["get", "Employees"], ["post", "Employees", {"Name": "Grace"}]],
        CHANGES,
    )
    assert made["status"] == 201
    assert services.log()[arrived:] == ["POST /odata/Employees in a batch"]


def test_references_to_what_was_made(batch, services):
    """The client numbers its requests from 1; with relative URLs it leaves `$1` as it is."""
    replies = batch(
        [
            ["post", "Employees", {"Name": "Grace"}],
            ["post", "$1/Reports", {"Name": "Linus"}],
            ["get", "$1/Reports"],
        ],
        RELATIVE,
    )
    assert [reply["status"] for reply in replies] == [201, 201, 200]
    assert [employee["Name"] for employee in replies[2]["body"]] == ["Linus"]


def test_references_in_a_change_set(batch, services):
    requests = [
        ["post", "Employees", {"Name": "Grace"}],
        ["post", "$1/Reports", {"Name": "Linus"}],
    ]
    replies = batch(requests, CHANGES | RELATIVE)
    assert [reply["status"] for reply in replies] == [201, 201]
    assert replies[1]["body"]["Boss"] == replies[0]["body"]["Id"]
    services.reset()
    [failed] = batch([*requests, ["post", "$2/Reports", {"Name": "Ada"}]], CHANGES | RELATIVE)
    assert failed["status"] == 409
    assert services.names() == ["Ada"]


def test_a_batch_that_is_refused(batch, services):
    seen = batch([["post", "Employees", {"Name": "Grace"}]], {}, {"X-Unknown": "1"})
    assert seen["refused"] == 400
    assert "/0/headers/x-unknown" in seen["text"]
    assert services.names() == ["Ada"]
