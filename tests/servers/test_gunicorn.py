"""What only gunicorn has: a configuration file that adds the endpoint, and a mount by header."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .. import support
from . import apps, client
from .harness import UNWRAPPED, start


@pytest.mark.parametrize(
    "options", ["--worker-class=gthread", "--worker-class=gevent", "--preload"], ids=str
)
def test_gunicorn_conf_adds_the_endpoint(options: str) -> None:
    with start("gunicorn_conf", GUNICORN_CMD_ARGS=options) as server:
        entries = client.batch(server, "/text", "/environ").entries
        assert [entry["status_code"] for entry in entries] == ["200", "200"]
        assert client.ask(server, "GET", "/text").status == 200


def test_gunicorn_conf_adds_the_endpoint_to_workers_started_later() -> None:
    with start("gunicorn_conf") as server:
        first = client.batch(server, "/progress").entries[0]["body"]["pid"]
        os.kill(server.pid, signal.SIGHUP)  # new workers, and the file is read again
        deadline = time.monotonic() + client.TIMEOUT
        while client.batch(server, "/progress").entries[0]["body"]["pid"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_nothing_but_the_file_adds_the_endpoint() -> None:
    assert support.batch(apps.app, "/text").status == 404
    with start("gunicorn_sync", UNWRAPPED) as server:
        assert client.batch(server, "/text").status == 404


def test_a_mount_by_header() -> None:
    """`SCRIPT_NAME` as a header, which gunicorn takes from a proxy that it trusts."""
    headers = {"SCRIPT_NAME": "/shop"}
    with start("gunicorn_sync") as server:
        reply = client.post(
            server,
            {"requests": [{"uri": "/environ?x"}, {"uri": "/account/cookies"}]},
            headers,
            "/shop/batch",
        )
        alone = client.ask(server, "GET", "/shop/environ?x", headers=headers).json()
    member = reply.entries[0]["body"]
    for key in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI"):
        assert member[key] == alone[key]
    assert member["RAW_URI"] == "/shop/environ?x"
    assert reply.headers.getlist("Set-Cookie")[0] == "plain=1; Path=/shop/account"
