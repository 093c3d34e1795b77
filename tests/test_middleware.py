"""Through the front door: a batch in, a reply out."""

from __future__ import annotations

from .support import batch, echo


def test_main_job(wrap):
    reply = batch(wrap(echo), "/a?x=1", {"method": "post", "uri": "/b", "args": {"y": 2}})
    first, second = reply.entries
    assert first["body"]["QUERY_STRING"] == "x=1"
    assert second["body"]["body"] == "y=2"
