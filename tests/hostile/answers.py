"""What every answer of the endpoint has to be, and what one case of the corpus expects of its."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ..support import Reply
from .corpus import Case

PROBLEM = "application/problem+json"
TYPE = "urn:problem-type:batchwsgi:"
LISTED = 100
LONGEST_DETAIL = 400
"""Characters: what a person is to read quotes no mebibyte back."""
LARGEST_REFUSAL = 3 * 1024 * 1024
"""Bytes: a pointer may name a mebibyte, but not a hundred times."""


def strictly(body: bytes) -> Any:
    """The value of a JSON text: UTF-8, no constants, and no name twice in one object."""
    return json.loads(
        body.decode(), parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_unique
    )


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 1000 else digits


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs), f"a name stands twice: {[name for name, _ in pairs][:10]}"
    return members


def is_ours(reply: Reply) -> bool:
    """Whether the endpoint wrote it; neither servers nor the application under attack say this."""
    return reply.headers.get("X-Content-Type-Options") == "nosniff"


def check(reply: Reply, head: bool = False) -> Any:
    """Check what holds for every answer of the endpoint; returns its document.

    `head` tells that the request was a HEAD.
    """
    assert is_ours(reply)
    assert reply.status == 200 or 400 <= reply.status < 500, reply
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Content-Type"] == ("application/json" if reply.status == 200 else PROBLEM)
    assert "X-Injected" not in reply.headers
    if head:
        assert reply.body == b""
        return None
    assert reply.headers["Content-Length"] == str(len(reply.body))
    document = strictly(reply.body)
    if reply.status == 200:
        assert list(document) == ["responses"]
        return document
    assert document["status"] == reply.status
    assert document["title"]
    assert len(reply.body) <= LARGEST_REFUSAL
    faults = document.get("errors", [])
    assert len(faults) <= LISTED
    for detail in (document["detail"], *(fault["detail"] for fault in faults)):
        assert 0 < len(detail) <= LONGEST_DETAIL, detail[:LONGEST_DETAIL]
    assert document["detail"].endswith(" Nothing was executed.")
    return document


def compare(reply: Reply, case: Case, head: bool = False) -> None:
    """Compare an answer of the endpoint with what the case expects."""
    assert reply.status == case.status, reply.body[:2000]
    document = check(reply, head)
    assert reply.headers.getlist("Set-Cookie") == case.cookies
    if head:
        return
    if case.entries is not None:
        entries = document["responses"]
        assert len(entries) == len(case.entries)
        for entry, expected in zip(entries, case.entries, strict=True):
            assert _looked_at(entry, expected) == expected
        return
    assert case.says in document["detail"]
    if case.errors is not None:
        faults = document.get("errors", [])
        found = {fault["pointer"]: fault["detail"] for fault in faults}
        assert len(found) == len(faults)
        assert found.keys() == case.errors.keys()
        for pointer, part in case.errors.items():
            assert part in found[pointer]


def _looked_at(entry: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Of an entry, what the case looks at."""
    found = {name: entry.get(name) for name in expected}
    if "problem" in expected:
        assert entry["headers"] == {"Content-Type": PROBLEM}
        assert entry["body"]["type"].startswith(TYPE)
        found["problem"] = entry["body"]["type"].removeprefix(TYPE)
    return found
