"""A real proxy in front: what it sees of a batch, and how `authorize` closes what it cannot."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from ..servers.harness import start
from ..support import Reply
from .nginx import BINARY, Proxy, proxy_to
from .record import Record, until

pytestmark = pytest.mark.skipif(
    BINARY is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"
)

RATE = 5
"""How many requests of one client nginx lets through, and the guarded endpoint too."""

ANOTHER_CLIENT = "127.0.0.2"


@contextmanager
def behind_nginx(app: str, record: Record, folder: Path) -> Iterator[Proxy]:
    app = f"tests.faults.proxied:{app}"
    environment = {"RECORD": str(record.path), "RATE": f"{RATE}/hour"}
    with (
        start("gunicorn_gthread", app, **environment) as upstream,
        proxy_to(upstream, folder) as proxy,
    ):
        yield proxy


def ask(
    proxy: Proxy,
    path: str,
    document: Any = None,
    headers: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
) -> Reply:
    """A GET, or a POST of that document, from that address."""
    connection = http.client.HTTPConnection(
        proxy.host, proxy.port, timeout=10, source_address=(client, 0)
    )
    body = None if document is None else json.dumps(document)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            body,
            {"Content-Type": "application/json", **(headers or {})},
        )
        response = connection.getresponse()
        return Reply(response.status, Headers(response.getheaders()), response.read())
    finally:
        connection.close()


def batch(proxy: Proxy, *uris: str, **options: Any) -> Reply:
    return ask(proxy, "/batch", {"requests": [{"uri": uri} for uri in uris]}, **options)


def called(record: Record) -> list[str]:
    """The paths for which the application was called."""
    return [line.name for line in record.lines()]


def test_rules_of_the_proxy_hold_for_requests_one_by_one(record, tmp_path):
    with behind_nginx("plain", record, tmp_path) as proxy:
        for spelling in ("/admin", "/admin/users", "/%61dmin", "//admin", "/x/../admin"):
            assert ask(proxy, spelling).status == 403
        assert called(record) == []
        statuses = Counter(ask(proxy, "/page").status for _ in range(20))
    assert statuses == {200: RATE, 429: 20 - RATE}
    assert called(record) == ["/page"] * RATE


def test_a_batch_is_one_request_to_the_proxy(record, tmp_path):
    """Why `authorize` is there: nginx sees one POST, whatever is in it."""
    uris = ["/admin", "/admin/users", *["/page"] * 18]
    with behind_nginx("plain", record, tmp_path) as proxy:
        entries = batch(proxy, *uris).entries
        until(proxy.access_log)
        assert proxy.access_log() == ["127.0.0.1 200 POST /batch HTTP/1.1"]
    assert [entry["status_code"] for entry in entries] == ["200"] * 20
    assert called(record) == uris


def test_authorize_closes_what_the_proxy_leaves_open(record, tmp_path):
    forbidden = ["/admin", "/admin/users", "/%61dmin"]
    with behind_nginx("guarded", record, tmp_path) as proxy:
        entries = batch(proxy, *forbidden, *["/page"] * 17).entries
        for entry in entries[:3]:
            assert entry["status_code"] == "403"
        for entry in entries[3 : 3 + RATE]:
            assert entry["status_code"] == "200"
        for entry in entries[3 + RATE :]:
            assert entry["status_code"] == "429"
            assert 3000 < int(entry["headers"]["Retry-After"]) <= 3600
        assert called(record) == ["/page"] * RATE
        # The next batch of that client is counted with it, another client's is not.
        assert [e["status_code"] for e in batch(proxy, "/page").entries] == ["429"]
        others = batch(proxy, *["/page"] * (RATE + 1), client=ANOTHER_CLIENT).entries
        assert [e["status_code"] for e in others] == ["200"] * RATE + ["429"]


def test_other_spellings_of_a_path_refuse_the_batch(record, tmp_path):
    uris = ["/page", "//admin", "/x/../admin", "/x/%2e%2e/admin", "/x%2f../admin", "/./admin"]
    with behind_nginx("guarded", record, tmp_path) as proxy:
        assert batch(proxy, *uris).pointers == [f"/requests/{n}/uri" for n in range(1, len(uris))]
    assert called(record) == []


def test_batches_themselves_are_limited(record, tmp_path):
    """Two of them; requests one by one are none of that limit's."""
    with behind_nginx("counted", record, tmp_path) as proxy:
        replies = [batch(proxy, "/page", "/page") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert 3000 < int(replies[2].headers["Retry-After"]) <= 3600
        assert ask(proxy, "/page").status == 200
        assert batch(proxy, "/page", client=ANOTHER_CLIENT).status == 200
    assert called(record) == ["/page"] * 6


FORGED = "203.0.113.9"


def test_client_that_the_proxy_names_reaches_members(record, tmp_path):
    """They see what requests one by one see: nginx overwrites one header, adds to the other."""
    headers = {"X-Real-IP": FORGED, "X-Forwarded-For": FORGED}
    with behind_nginx("plain", record, tmp_path) as proxy:
        (entry,) = batch(proxy, "/page", headers=headers, client=ANOTHER_CLIENT).entries
        alone = ask(proxy, "/page", headers=headers, client=ANOTHER_CLIENT)
    assert entry["body"] == alone.json()
    assert entry["body"] == {
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_REAL_IP": ANOTHER_CLIENT,
        "HTTP_X_FORWARDED_FOR": f"{FORGED}, {ANOTHER_CLIENT}",
    }


def test_proxy_fix_outside_the_endpoint_gives_members_the_client(record, tmp_path):
    headers = {"X-Forwarded-For": FORGED}
    with behind_nginx("guarded", record, tmp_path) as proxy:
        (entry,) = batch(proxy, "/page", headers=headers, client=ANOTHER_CLIENT).entries
    assert entry["body"]["REMOTE_ADDR"] == ANOTHER_CLIENT


def test_members_cannot_name_another_client(record, tmp_path):
    names = ["X-Real-IP", "x-real-ip", "X-Forwarded-For", "Forwarded"]
    items = [{"uri": "/page", "headers": {name: FORGED}} for name in names]
    with behind_nginx("plain", record, tmp_path) as proxy:
        reply = ask(proxy, "/batch", {"requests": [{"uri": "/page"}, *items]})
    assert reply.pointers == [f"/requests/{n}/headers/{name}" for n, name in enumerate(names, 1)]
    assert called(record) == []
