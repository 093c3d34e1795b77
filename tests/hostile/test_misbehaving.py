"""The applications of `tests.misbehaving` behind real servers: each spoils its own entry only."""

from __future__ import annotations

import pytest

from .. import misbehaving
from ..servers import client
from ..servers.harness import Server
from .answers import PROBLEM, TYPE, check
from .app import Calls

# Whole under the default limits, which servers have that add the endpoint themselves.
WHOLE = {"large_once_encoded": "\x01" * 60_000, "writes_on_in_close": "x" * 200_000 + "more"}


@pytest.mark.parametrize("name", misbehaving.CASES)
def test_misbehaving(server: Server, calls: Calls, name: str) -> None:
    case = misbehaving.CASES[name]
    if server.kind.wraps and name in WHOLE:
        case = case._replace(status="200", body=WHOLE[name])
    headers = {"Authorization": "Bearer t"}
    reply = client.batch(server, "/good?n=0", f"/{name}", "/good?n=2", headers=headers)
    check(reply)
    before, entry, after = reply.entries
    assert (before["status_code"], before["body"]) == ("200", _good(0))
    assert (after["status_code"], after["body"]) == ("200", _good(2))
    assert entry["status_code"] == case.status
    if case.status in ("500", "502"):
        assert entry["headers"] == {"Content-Type": PROBLEM}
        assert entry["body"]["type"] == f"{TYPE}{case.body}"
    else:
        assert (entry["body"] or "") == case.body
    assert b"secret" not in reply.body
    assert calls() == ["GET /good?n=0", f"GET /{name}", "GET /good?n=2"]
    assert client.batch(server, "/good?n=3").entries[0]["body"]["QUERY_STRING"] == "n=3"
    assert server.alive()


def _good(number: int) -> dict[str, object]:
    return {
        "QUERY_STRING": f"n={number}",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_AUTHORIZATION": "Bearer t",
        "planted": False,
    }
