"""`Server-Timing` (W3C) in entries and in the reply."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest

from batchwsgi import BatchMiddleware, Limits

from .support import ask, batch, echo, environ, post
from .test_dialects import FORMATS, numbered
from .test_program import Clock, Journal

FIELD = re.compile(r"batchwsgi;start=([0-9]+\.[0-9]{2});dur=([0-9]+\.[0-9]{2})")
OUTER = re.compile(r"batchwsgi;dur=[0-9]+\.[0-9]{2}")


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def slow(clock, status="200 OK", fields=()):
    def app(request, start_response):
        clock.now += 0.25
        start_response(status, [("Content-Type", "application/json"), *fields])
        return [b"1"]

    return app


def test_when_each_member_ran(clock):
    reply = batch(BatchMiddleware(slow(clock), timing=True), "/a", "/b")
    assert [entry["headers"]["Server-Timing"] for entry in reply.entries] == [
        "batchwsgi;start=0.00;dur=250.00",
        "batchwsgi;start=250.00;dur=250.00",
    ]
    assert reply.headers["Server-Timing"] == "batchwsgi;dur=500.00"


def test_behind_what_the_application_says(clock):
    app = slow(clock, fields=[("server-timing", "db;dur=1")])
    (entry,) = batch(BatchMiddleware(app, timing=True), "/").entries
    assert entry["headers"]["server-timing"] == "db;dur=1, batchwsgi;start=0.00;dur=250.00"


def test_not_where_it_is_off(clock):
    reply = batch(BatchMiddleware(slow(clock)), "/")
    assert "Server-Timing" not in reply.headers
    assert "Server-Timing" not in reply.entries[0]["headers"]


def test_on_refusals():
    app = BatchMiddleware(echo, timing=True)
    for reply in (batch(app, "x"), ask(app, environ(path="/batch"))):
        assert reply.status in (400, 405)
        assert OUTER.fullmatch(reply.headers["Server-Timing"])
    assert "Server-Timing" not in ask(app, environ(path="/x")).headers


def test_on_a_stream():
    headers = {"Accept": "application/x-ndjson"}
    reply = batch(BatchMiddleware(echo, timing=True), "/a", "/b", headers=headers)
    assert "Server-Timing" not in reply.headers
    for line in reply.body.splitlines():
        assert FIELD.fullmatch(json.loads(line)["headers"]["Server-Timing"])


def test_on_what_was_sent_and_not_on_what_was_not():
    """On what was undone, cut off or failed too."""
    journal = Journal()
    app = BatchMiddleware(journal, transaction=journal.transaction, timing=True)
    items = [{"uri": "/200"}, {"uri": "/404"}, {"uri": "/200"}]
    reply = post(app, {"on-fail": "rollback", "requests": items})
    timed = ["Server-Timing" in entry["headers"] for entry in reply.entries]
    assert [entry["status_code"] for entry in reply.entries] == ["424", "404", "424"]
    assert timed == [True, True, False]

    def failing(request, start_response):
        if request["PATH_INFO"] == "/fails":
            raise RuntimeError
        start_response("200 OK", [("X-Accel-Redirect", "/x")] * (request["PATH_INFO"] == "/file"))
        return [b"x" * 5000]

    limits = Limits(max_member_size=1000)
    app = BatchMiddleware(failing, timing=True, limits=limits)
    entries = batch(app, "/large", "/fails", "/file").entries
    assert [entry["status_code"] for entry in entries] == ["502", "500", "502"]
    for entry in entries:
        assert FIELD.fullmatch(entry["headers"]["Server-Timing"])
        assert entry["headers"]["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_in_every_dialect(name, threads):
    reply = FORMATS[name].post(
        echo, *numbered(5), timing=True, threads=threads, transaction=nullcontext
    )
    assert len(FIELD.findall(reply.body.decode())) == 5
    assert OUTER.fullmatch(reply.headers["Server-Timing"])


def test_beside_the_access_log(caplog):
    caplog.set_level("INFO", "batchwsgi.access")
    (entry,) = batch(BatchMiddleware(echo, timing=True), "/").entries
    _, duration = FIELD.fullmatch(entry["headers"]["Server-Timing"]).groups()
    assert abs(float(re.search(r"([0-9.]+) ms", caplog.text)[1]) - float(duration)) < 0.01
