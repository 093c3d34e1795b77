"""What the README says without a table: first cookies side by side, a retry, text and base64."""

from __future__ import annotations

import json
from itertools import count
from threading import Barrier

import pytest

from batchwsgi import BatchMiddleware

from ..support import batch

# --- A first cookie ----------------------------------------------------------------------------


def first_visits(meeting):
    """An application that gives a token to who has none, and shows the one that it knows then."""
    tokens = count(1)

    def app(request, start_response):
        sent = request.get("HTTP_COOKIE", "")
        token = sent.removeprefix("token=") or str(next(tokens))
        meeting.wait(10)
        fields = [] if sent else [("Set-Cookie", f"token={token}; Path=/")]
        start_response("200 OK", [("Content-Type", "application/json"), *fields])
        return [token.encode()]

    return app


def shown(reply):
    """The tokens in the pages, and the one that the client has afterwards."""
    (cookie,) = reply.headers.getlist("Set-Cookie")
    return {entry["body"] for entry in reply.entries}, int(cookie.partition(";")[0][6:])


def test_neighbours_that_each_make_a_first_cookie_race():
    """As the parallel requests of a browser do: the token of one page is not the client's."""
    pages, kept = shown(batch(BatchMiddleware(first_visits(Barrier(2)), threads=2), "/", "/"))
    assert pages == {1, 2}
    assert kept in pages


@pytest.mark.parametrize("threads", [0, 2])
def test_a_dependency_puts_one_before_the_others(threads):
    app = BatchMiddleware(first_visits(Barrier(1)), threads=threads)
    pages, kept = shown(batch(app, "/", *[{"uri": "/", "depends-on": ["0"]}] * 3))
    assert (pages, kept) == ({1}, 1)


# --- A retry -----------------------------------------------------------------------------------


@pytest.fixture
def shop():
    """An application that keeps its answers by `Idempotency-Key`, and the orders that it took."""
    orders, answers = [], {}

    def app(request, start_response):
        key = request.get("HTTP_IDEMPOTENCY_KEY")
        if key is None or key not in answers:
            orders.append(key)
            answers[key] = len(orders)
        start_response("201 Created", [("Content-Type", "application/json")])
        return [str(answers[key]).encode()]

    return BatchMiddleware(app), orders


def test_members_with_keys_are_retried_safely(shop):
    app, orders = shop
    items = [
        {"method": "post", "uri": "/orders", "headers": {"Idempotency-Key": key}} for key in "ab"
    ]
    lost, again = batch(app, *items), batch(app, *items)
    assert lost.entries == again.entries
    assert orders == ["a", "b"]


def test_the_key_of_the_batch_is_nobodys(shop):
    app, orders = shop
    for _ in range(2):
        batch(app, {"method": "post", "uri": "/orders"}, headers={"Idempotency-Key": "a"})
    assert orders == [None, None]


# --- Text and base64 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("application/json", b'{"n": 1.10}', ({"n": 1.1}, None)),
        ("application/problem+json", b"{}", ({}, None)),
        ("text/html; charset=latin-1", b"\xe9", ("é", "text")),
        ("image/svg+xml", b"<svg/>", ("<svg/>", "text")),
        ("application/xml", b"<a/>", ("<a/>", "text")),
        ("application/javascript", b"1", ("1", "text")),
        ("application/json", b"{", ("{", "text")),
        ("text/plain", b"\xff", ("/w==", "base64")),
        ("image/png", b"a", ("YQ==", "base64")),
        ("application/octet-stream", b"a", ("YQ==", "base64")),
        ("", b"a", ("YQ==", "base64")),
    ],
)
def test_what_is_text_and_what_is_base64(content_type, body, shown):
    def app(request, start_response):
        start_response("200 OK", [("Content-Type", content_type)] if content_type else [])
        return [body]

    reply = batch(BatchMiddleware(app), "/")
    (entry,) = reply.entries
    assert (entry["body"], entry.get("encoding")) == shown
    if shown[1] is None:
        assert b'"body":' + body in reply.body
    json.loads(reply.body)
