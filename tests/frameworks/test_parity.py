"""The law: the reply to a member is the reply to the same request sent on its own."""

from __future__ import annotations

import pytest

from batchwsgi import Limits, executors
from batchwsgi.testing import assert_parity

from ..support import batch
from .parity import (
    ANYTHING,
    CASES,
    OUTER_HEADERS,
    carried_body,
    compared_headers,
    expected_body,
    expected_cookies,
    sent_alone,
)

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

# A form post before and a query after: if anything of a member stayed behind, these would leave it
# to the case, or find it.
BEFORE = {"method": "post", "uri": "/form", "args": {"name": "before", "tag": ["1", "2"]}}
AFTER = "/query?q=after&tag=3&tag=4"


def assert_same(entry, reply, case) -> None:
    assert entry["status_code"] == str(reply.status)
    assert case.status in (ANYTHING, reply.status)
    entry["headers"].pop("Date", None)
    assert entry["headers"] == compared_headers(reply.headers)
    body = carried_body(entry, reply.headers.get("Content-Type", ""))
    assert body == expected_body(reply)
    assert case.body in (ANYTHING, body)


@every_case
def test_member_equals_single_request(make_app, case, wrap):
    reply = batch(wrap(make_app()), BEFORE, case.item, AFTER, headers=OUTER_HEADERS)
    before, entry, after = reply.entries
    alone = sent_alone(make_app(), case)
    assert_same(entry, alone, case)
    assert reply.headers.getlist("Set-Cookie") == expected_cookies(alone, "/cookies")
    assert before["body"] == {"name": "before", "tag": ["1", "2"]}
    assert after["body"] == {"q": "after", "tag": ["3", "4"]}


@every_case
def test_member_equals_single_request_under_a_mount(make_app, case, wrap):
    mounted = {"SCRIPT_NAME": "/app"}
    reply = batch(wrap(make_app()), case.item, headers=OUTER_HEADERS, **mounted)
    alone = sent_alone(make_app(), case, "/app")
    assert_same(reply.entries[0], alone, case)
    assert reply.headers.getlist("Set-Cookie") == expected_cookies(alone, "/app/cookies")


@pytest.mark.parametrize("threads", [0, 4], ids=["", "threads"])
@pytest.mark.parametrize("backwards", [False, True], ids=["in-order", "backwards"])
def test_all_cases_in_one_batch(make_app, backwards, threads, wrap, monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.000_001)  # threads begin at once
    cases = [*CASES.values()]
    if backwards:
        cases.reverse()
    items = [case.item for case in cases]
    assert_parity(make_app, items, headers=OUTER_HEADERS, threads=threads)
    app = wrap(make_app(), limits=Limits(max_requests=len(cases)), threads=threads)
    reply = batch(app, *items, headers=OUTER_HEADERS)
    for entry, case in zip(reply.entries, cases, strict=True):
        assert case.status in (ANYTHING, int(entry["status_code"]))
        body = carried_body(entry, entry["headers"].get("Content-Type", ""))
        assert case.body is ANYTHING or body == case.body
