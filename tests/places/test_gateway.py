"""One batch over several services: the recipe around werkzeug's proxy, attacked and timed.

The gateway is a real one, on gunicorn; what the services are sent is looked at byte for byte.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ..servers import client
from ..servers.harness import Server, start
from .services import SLOW, Seen, Service, running


class Gateway(NamedTuple):
    """The gateway and what is behind it."""

    server: Server
    users: Service
    orders: Service

    def ask(self, *items, path="/batch", **headers):
        """Post a batch; the reply, and what the services were sent by it."""
        self.users.seen.clear()
        self.orders.seen.clear()
        requests = [{"uri": item} if isinstance(item, str) else item for item in items]
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = client.post(self.server, {"requests": requests}, headers, path)
        return reply, [*self.users.seen, *self.orders.seen]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    app = "tests.places.gateway_served:application"
    with running("users") as users, running("orders") as orders:
        where = {"USERS": users.target, "ORDERS": orders.target}
        # gunicorn itself would take the scheme from a proxy on this machine.
        options = {"GUNICORN_CMD_ARGS": "--forwarded-allow-ips=192.0.2.1"}
        with start("gunicorn_gthread", app, **where, **options) as server:
            yield Gateway(server, users, orders)
            users.released.set()
            orders.released.set()


def statuses(reply) -> list[str]:
    return [entry["status_code"] for entry in reply.entries]


def problem(entry) -> str:
    return entry["body"]["type"].removeprefix("urn:problem-type:batchwsgi:")


# --- What services are sent --------------------------------------------------------------------

ODD_PATHS = [
    "/users/%252e%252e/admin",
    "/users/%2525",
    "/users/%C3%A4",
    "/users/a%20b",
    "/users/a%3Fb%23c",
    "/users/a;b=c,d",
    "/users/a+b&c=d'(e)*!$@:",
    "/users/%5B%5D%7C%22",
    "/users/a//b/",
    "/users/?next=%2Fhome&x=%252e",
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_arrives_as_it_was_sent(gateway, path):
    reply, (seen,) = gateway.ask(path)
    assert statuses(reply) == ["200"]
    assert seen.target == path
    assert client.ask(gateway.server, "GET", path).status == 200
    assert gateway.users.seen[-1].target == path


def test_the_bare_proxy_decodes_a_path(gateway):
    """Why the recipe is there: the path passes every rule, and then is another."""
    reply, (seen,) = gateway.ask("/users/%252e%252e/admin", path="/bare")
    assert statuses(reply) == ["200"]
    assert seen.target == "/users/%2e%2e/admin"
    _, (seen,) = gateway.ask("/users/%C3%A4", path="/bare")
    assert seen.target == "/users/%C3%83%C2%A4"


def test_each_member_goes_to_its_service(gateway):
    uris = ["/users/1", "/orders/1", "/users", "/other/1", "/usersorders/1", "/orders/2"]
    reply, seen = gateway.ask(*uris)
    assert statuses(reply) == ["200", "200", "404", "404", "404", "200"]
    assert [entry["body"] for entry in reply.entries][:2] == ["users", "orders"]
    assert sorted(one.target for one in seen) == ["/orders/1", "/orders/2", "/users/1"]


@pytest.mark.parametrize("path", ["/users/../orders/1", "/users/%2e%2e/orders/1", "//orders/1"])
def test_dot_segments_lead_nowhere(gateway, path):
    """A member with one is refused; a request on its own never leaves its service."""
    reply, seen = gateway.ask("/users/1", path)
    assert (reply.pointers, seen) == (["/requests/1/uri"], [])
    client.ask(gateway.server, "GET", path)
    assert gateway.orders.seen == []


CLAIMS = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded": "for=203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
}


def who(seen: Seen) -> list[str]:
    """All that tells a service who the client is."""
    return sorted(
        line for line in seen.lines[1:] if "orwarded" in line or line.startswith(("Host", "X-Real"))
    )


def test_the_client_is_whom_the_gateway_sees(gateway):
    host = f"{gateway.server.host}:{gateway.server.port}"
    told = [f"Host: {host}", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"]
    hop = {"Connection": "close, X-Forwarded-For, Cookie"}
    _, (seen,) = gateway.ask("/users/1", **CLAIMS)
    assert who(seen) == told
    _, (seen,) = gateway.ask("/users/1", **CLAIMS, **hop)
    assert who(seen) == told
    client.ask(gateway.server, "GET", "/users/1", headers={**CLAIMS, **hop})
    assert who(gateway.users.seen[-1]) == told


@pytest.mark.parametrize(
    "name",
    [*CLAIMS, "Host", "Cookie", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade"],
)
def test_members_cannot_smuggle_headers(gateway, name):
    reply, seen = gateway.ask({"uri": "/users/1", "headers": {name: "chunked"}})
    assert (reply.pointers, seen) == ([f"/requests/0/headers/{name}"], [])


def test_hop_by_hop_headers_end_at_the_gateway(gateway):
    sent = {"TE": "trailers", "Keep-Alive": "x", "Upgrade": "h2c", "Proxy-Authorization": "x"}
    _, (seen,) = gateway.ask("/users/1", **sent, X_Foo="1", Authorization="Bearer x")
    assert [seen.values(name) for name in sent] == [[], [], [], []]
    assert seen.header("Connection") == "close"
    assert (seen.header("X-Foo"), seen.header("Authorization")) == ("1", "Bearer x")


def test_a_chunked_request_is_refused(gateway):
    """The bare proxy sends it on without its length: its body could be the next request."""
    body = client.chunked(b"GET /users/smuggled HTTP/1.1\r\n\r\n")
    fields = ["Transfer-Encoding: chunked", "Connection: close"]
    gateway.users.seen.clear()
    head = client.head(gateway.server, *fields, path="/users/1")
    assert client.raw(gateway.server, head, body).startswith(b"HTTP/1.1 411 ")
    assert gateway.users.seen == []
    head = client.head(gateway.server, *fields, path="/users/bare")
    assert client.raw(gateway.server, head, body).startswith(b"HTTP/1.1 200 ")
    (seen,) = gateway.users.seen
    assert seen.values("Content-Length") == seen.values("Transfer-Encoding") == []


# --- Cookies, Location -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("session=1; other=2", ["session=1"]),
        ("other=2;session=1;  session=3", ["session=1; session=3"]),
        ("other=session=1; xsession=2; Session=3; session", ["session"]),
        ("other=2", []),
    ],
)
def test_services_see_the_cookies_that_they_should(gateway, sent, seen):
    _, (one,) = gateway.ask("/users/1", Cookie=sent)
    assert one.values("Cookie") == seen
    client.ask(gateway.server, "GET", "/users/1", headers={"Cookie": sent})
    assert gateway.users.seen[-1].values("Cookie") == seen


def test_cookies_of_a_service(gateway):
    after = [{"uri": uri, "depends-on": ["0"]} for uri in ("/users/1", "/orders/1")]
    reply, (user, _, order) = gateway.ask("/orders/cookies", *after)
    assert user.values("Cookie") == order.values("Cookie") == ["session=s1"]
    assert reply.headers.getlist("Set-Cookie") == [
        "session=s1; Path=/; HttpOnly",
        "basket=b1; Path=/orders",
        "tracker=t1; Domain=internal.example; Path=/orders",
    ]


def test_location_of_a_service(gateway):
    created = {"method": "post", "uri": "/orders/created"}
    reply, seen = gateway.ask(created, "{$responses.0.location}")
    assert statuses(reply) == ["201", "200"]
    assert [one.target for one in seen] == ["/orders/created", "/orders/7"]
    reply, seen = gateway.ask("/users/redirect", "{$responses.0.location}")
    assert [one.target for one in seen] == ["/users/redirect", "/users/me"]


def test_location_behind_the_bare_proxy_is_of_another_host(gateway):
    """Its service is told its own host, without the port."""
    _, (seen,) = gateway.ask("/orders/1", path="/bare")
    assert seen.header("Host") == "127.0.0.1"


# --- Replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("204", "204", None),
        ("chunked", "200", "one two"),
        ("no-reason", "200", "b2s="),
        ("error", "503", "bm8="),
        ("hop-by-hop", "200", "b2s="),
    ],
)
def test_replies(gateway, name, status, body):
    reply, _ = gateway.ask(f"/users/{name}", "/orders/1")
    entry, other = reply.entries
    assert (entry["status_code"], entry["body"]) == (status, body)
    assert not {"Keep-Alive", "Upgrade", "Connection"} & entry["headers"].keys()
    assert other["body"] == "orders"


def test_head(gateway):
    reply, _ = gateway.ask({"method": "head", "uri": "/users/head"})
    (entry,) = reply.entries
    assert (entry["headers"]["Content-Length"], entry["body"]) == ("12345", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("short", "incomplete"),
        ("short-chunked", "application-error"),
        ("garbage", "application-error"),
    ],
)
def test_broken_replies_are_their_own_members(gateway, name, expected):
    reply, _ = gateway.ask(f"/users/{name}", "/users/1")
    entry, other = reply.entries
    assert problem(entry) == expected
    assert other["status_code"] == "200"


def test_a_service_that_is_dead(gateway):
    with running("dead") as service:
        gone = service.target
    with start(
        "gunicorn_gthread",
        "tests.places.gateway_served:application",
        USERS=gone,
        ORDERS=gateway.orders.target,
    ) as server:
        assert statuses(client.batch(server, "/users/1", "/orders/1")) == ["502", "200"]


@pytest.mark.parametrize("name", ["hangs-up", "wait"])
def test_a_service_that_does_not_answer(gateway, name):
    reply, _ = gateway.ask(f"/users/{name}", "/orders/1")
    assert statuses(reply) == ["502", "200"]


def test_a_service_that_stops_in_a_chunked_reply_is_taken_for_one_that_ended(gateway):
    """The proxy says no more about it: `docs/places.md` has to."""
    reply, _ = gateway.ask("/users/wait-in-the-middle", "/orders/1")
    entry, other = reply.entries
    assert (entry["status_code"], entry["body"]) == ("200", None)
    assert other["body"] == "orders"


def test_an_upload(gateway):
    upload = bytes(range(256)) * 12_000
    item = {
        "method": "put",
        "uri": "/users/upload",
        "headers": {"Content-Type": "application/octet-stream"},
        "body": base64.b64encode(upload).decode(),
    }
    reply, (seen,) = gateway.ask(item, path="/upload")
    assert statuses(reply) == ["200"]
    assert seen.header("Content-Length") == str(len(upload))
    assert seen.body == upload


# --- Time --------------------------------------------------------------------------------------


def test_a_batch_takes_less_time_than_asking_each_in_turn(gateway):
    """Twenty that wait, over both services. A slow machine takes a fifth of the time, not half."""
    uris = [f"/{service}/slow" for _ in range(10) for service in ("users", "orders")]
    started = time.perf_counter()
    for uri in uris:
        assert client.ask(gateway.server, "GET", uri).status == 200
    in_turn = time.perf_counter() - started
    started = time.perf_counter()
    reply, _ = gateway.ask(*uris)
    together = time.perf_counter() - started
    assert statuses(reply) == ["200"] * 20
    assert in_turn > 20 * SLOW
    assert together < in_turn / 2
