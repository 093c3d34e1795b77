"""Microsoft's client of Graph for JavaScript, in node."""

from __future__ import annotations

import base64
from functools import partial

import pytest

from . import PNG

IMAGE = base64.b64encode(PNG).decode()


@pytest.fixture
def batch(node):
    """Send one batch, and return what the client makes of each reply, by id."""
    return partial(node, "graph_client.js", "batch")


def step(number: str, method: str, path: str, *after: str, **more):
    """One step of a batch, as `graph_client.js` takes it."""
    depends = {"dependsOn": list(after)} if after else {}
    return {"id": number, "method": method, "path": path, **depends, **more}


def test_reads_and_writes(batch, services):
    seen = batch(
        [
            step("1", "GET", "/me?$select=displayName"),
            step("2", "PATCH", "/me", body={"note": "second"}),
            step("3", "POST", "/users", body={"displayName": "Größe", "note": "好"}),
            step("4", "GET", "/users", headers={"ConsistencyLevel": "eventual"}),
            step("5", "DELETE", "/users/99"),
        ]
    )
    assert [seen[number]["status"] for number in "12345"] == [200, 204, 201, 200, 404]
    assert seen["1"]["json"]["note"] == "first"
    assert seen["2"]["text"] == ""
    assert seen["3"]["json"]["displayName"] == "Größe"
    assert [user["note"] for user in seen["4"]["json"]["value"]] == ["second", "好"]
    assert seen["5"]["json"]["error"]["message"] == "There is no record 99."
    assert services.names() == ["Ada", "Größe"]


def test_an_image(batch):
    """In both directions it is base64, which the client leaves to the application."""
    image = {"headers": {"Content-Type": "image/png"}, "body": IMAGE}
    seen = batch(
        [
            step("1", "PUT", "/me/photo/$value", **image),
            step("2", "GET", "/me/photo/$value"),
        ]
    )
    assert [seen[number]["status"] for number in "12"] == [204, 200]
    assert base64.urlsafe_b64decode(seen["2"]["text"]) == PNG


def test_what_depends_on_a_failure_does_not_run(batch, services):
    seen = batch(
        [
            step("1", "POST", "/users", body={"displayName": "Ada"}),
            step("2", "POST", "/users", "1", body={"displayName": "Grace"}),
            step("3", "POST", "/users", "2", body={"displayName": "Linus"}),
        ]
    )
    assert [seen[number]["status"] for number in "123"] == [409, 424, 424]
    assert services.names() == ["Ada"]


def test_one_after_the_other(batch, services):
    """The client drops the host of a URL: what remains is `/$1`."""
    seen = batch(
        [
            step("1", "POST", "/users", body={"displayName": "Grace"}),
            step("2", "GET", None, "1", url="http://graph.invalid/$1"),
            {
                "url": "http://graph.invalid/$1/Reports",
                **step("3", "POST", None, "2", body={"displayName": "Linus"}),
            },
        ]
    )
    assert [seen[number]["status"] for number in "123"] == [201, 200, 201]
    assert seen["2"]["json"] == seen["1"]["json"]
    assert seen["3"]["json"]["boss"] == seen["1"]["json"]["id"]


def test_a_batch_that_stops(batch, services):
    steps = [
        step("1", "POST", "/users", body={"displayName": "Ada"}),
        step("2", "POST", "/users", body={"displayName": "Grace"}),
    ]
    seen = batch(steps, {"Prefer": "odata.continue-on-error=false"})
    assert [seen[number]["status"] for number in "12"] == [409, 424]
    assert services.names() == ["Ada"]


def test_a_batch_that_is_refused(batch, services):
    steps = [step("1", "POST", "/users", headers={"X-Unknown": "1"}, body={"displayName": "Grace"})]
    seen = batch(steps)
    assert (seen["error"], seen["status"]) == ("Error", 400)
    assert services.names() == ["Ada"]
