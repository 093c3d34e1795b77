"""What servers really put into an environ, recorded, and what a member gets of it.

Each file of `tests/environs` has what one server made of three requests. Strings stand as they
were; of every other value there is its type, and the value where it is a plain one.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import check_environ

import pytest

from batchwsgi import BatchMiddleware

from .. import support
from ..support import Environ

FOLDER = Path(__file__).parents[1] / "environs"
RECORDS = {
    f"{path.stem}-{name}": record["environ"]
    for path in sorted(FOLDER.glob("*.json"))
    for name, record in json.loads(path.read_text()).items()
    if isinstance(record, dict) and "environ" in record
}
NO_RECORD = {  # what the server, or the one in front of it, refused
    "cheroot-absolute_form_get",
    "mod_wsgi_daemon_mounted-absolute_form_get",
    "mod_wsgi_daemon_mounted-chunked",
    "mod_wsgi_embedded-chunked",
    "wsgiref-chunked",
}
WITHOUT_END = {"uwsgi-chunked", "uwsgi_http-chunked"}
"""Chunked requests whose body nobody can read: no length, and no mark of the end."""

# The child environ, from the design's table.
MADE = {
    *("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME"),
    *("wsgi.input", "wsgi.input_terminated", "batchwsgi.request"),
}
BODY_KEYS = {"CONTENT_LENGTH", "CONTENT_TYPE"}
COPIED = {
    *("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "SERVER_ADDR"),
    *("REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE"),
    *("HTTPS", "REQUEST_SCHEME"),
    *("wsgi.version", "wsgi.url_scheme", "wsgi.errors"),
    *("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"),
}
REWRITTEN = {"RAW_URI", "REQUEST_URI"}
DROPPED = {
    *("HTTP_ACCEPT_ENCODING", "HTTP_CONNECTION", "HTTP_KEEP_ALIVE", "HTTP_TE", "HTTP_TRAILER"),
    *("HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE", "HTTP_PROXY", "HTTP_PROXY_AUTHORIZATION"),
    *("HTTP_EXPECT", "HTTP_RANGE", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_RANGE"),
    *("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_PREFER"),
    *("HTTP_IDEMPOTENCY_KEY", "HTTP_CONTENT_LANGUAGE", "HTTP_CONTENT_DISPOSITION"),
    *("HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_ORIGINAL_URL", "HTTP_X_REWRITE_URL"),
}
"""Headers that members never inherit."""

BATCH = json.dumps(
    {
        "requests": [
            {"uri": "/a%25b/é?x=%2F"},
            {"method": "post", "uri": "/b", "body": {"n": 1}},
            {"method": "delete", "uri": "/c", "headers": {"Accept-Language": "zh"}},
        ]
    }
).encode()
TARGETS = ["/a%25b/%C3%A9?x=%2F", "/b", "/c"]


class Input:
    """The body of the outer request: only `read`, and never past what the request says.

    Such a read fails here; under werkzeug's server and wsgiref's it would wait for ever.
    """

    def __init__(self, length: int | None) -> None:
        self.taken = 0
        self._left = length
        self._body = io.BytesIO(BATCH)

    def read(self, size: int) -> bytes:
        assert size >= 0
        if self._left is not None:
            assert size <= self._left, "a read past the end"
            self._left -= size
        part = self._body.read(size)
        self.taken += len(part)
        return part


def outer(recorded: Environ, sockets: list[socket.socket]) -> Environ:
    """The environ of a batch, as the server of that record would have made it."""
    environ = {key: _value(key, value, sockets) for key, value in recorded.items()}
    length = None if "HTTP_TRANSFER_ENCODING" in environ else len(BATCH)
    environ |= {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/batch",
        "CONTENT_TYPE": "application/json",
        "wsgi.input": Input(length),
    }
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    return environ


def _value(key: str, recorded: Any, sockets: list[socket.socket]) -> Any:
    """A value of the type that was recorded, or something like it."""
    if isinstance(recorded, str):
        return recorded
    match recorded:
        case {"type": "tuple", "value": value}:
            return tuple(value)
        case {"type": "bytes", "value": value}:
            return value.encode()
        case {"value": value}:
            return value
        case {"type": "socket.socket" | "gevent._socket3.socket"}:
            sockets.append(socket.socket())
            return sockets[-1]
        case {"type": "builtins.function"}:
            return lambda headers: None
        case {"type": "builtins.method"}:
            return io.BytesIO().close
        case {"type": "builtins.builtin_function_or_method"}:
            return print
        case {"type": "builtins.type"}:
            return FileWrapper
    assert key in ("wsgi.errors", "wsgi.input"), recorded
    return io.StringIO()


@pytest.fixture(params=[name for name in RECORDS if name not in WITHOUT_END])
def batch_environ(request: pytest.FixtureRequest) -> Iterator[Environ]:
    """The environ of a batch, made from one that was recorded."""
    sockets: list[socket.socket] = []
    yield outer(RECORDS[request.param], sockets)
    for one in sockets:
        one.close()


def post(environ: Environ) -> list[Environ]:
    """Post the batch; the environs that its members were sent with, as they were then."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        check_environ(environ)
        seen.append(environ.copy())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    reply = support.ask(BatchMiddleware(app), environ)
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 3
    return seen


def test_all_recorded_environs_are_here() -> None:
    assert len(list(FOLDER.glob("*.json"))) == 15
    requests = ("content_length", "chunked", "absolute_form_get")
    expected = {f"{path.stem}-{name}" for path in FOLDER.glob("*.json") for name in requests}
    assert RECORDS.keys() == expected - NO_RECORD


@pytest.mark.parametrize("name", sorted(WITHOUT_END))
def test_a_body_without_an_end_is_not_read(name: str) -> None:
    environ = outer(RECORDS[name], [])
    reply = support.ask(BatchMiddleware(support.echo), environ)
    assert reply.status == 411
    assert environ["wsgi.input"].taken == 0


def test_members_have_the_keys_of_the_allow_list_and_no_others(batch_environ: Environ) -> None:
    headers = {key for key in batch_environ if key.startswith("HTTP_")} - DROPPED
    inherited = (COPIED | REWRITTEN) & batch_environ.keys() | headers
    own: tuple[set[str], ...] = (set(), BODY_KEYS, {"HTTP_ACCEPT_LANGUAGE"})
    for member, own_keys in zip(post(batch_environ), own, strict=True):
        assert member.keys() == MADE | inherited | own_keys


def test_headers_that_must_not_be_inherited_are_dropped(batch_environ: Environ) -> None:
    batch_environ |= dict.fromkeys(DROPPED, "outer")
    for member in post(batch_environ):
        assert not DROPPED & member.keys()


def test_what_a_member_is_told_of_the_client_is_the_outer_requests(
    batch_environ: Environ,
) -> None:
    for member in post(batch_environ):
        for key in batch_environ.keys() & {
            *("HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_FORWARDED_FOR", "HTTP_HOST"),
            *("HTTP_X_FORWARDED_PROTO", "REMOTE_ADDR", "SERVER_NAME", "SCRIPT_NAME"),
        }:
            assert member[key] == batch_environ[key]
        assert member.get("REMOTE_PORT") == (
            str(batch_environ["REMOTE_PORT"]) if "REMOTE_PORT" in batch_environ else None
        )


def test_values_have_the_types_of_pep_3333(batch_environ: Environ) -> None:
    for member in post(batch_environ):
        assert type(member) is dict
        for key, value in member.items():
            if "." not in key:
                assert type(value) is str
                value.encode("latin-1")
        assert member["wsgi.version"] == (1, 0)
        assert type(member["wsgi.input"]) is io.BytesIO
        assert member["wsgi.input_terminated"] is True
        assert member["wsgi.errors"] is batch_environ["wsgi.errors"]
        for key in ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"):
            assert member[key] is batch_environ[key]


def test_nothing_of_the_servers_own_reaches_members(batch_environ: Environ) -> None:
    batch_environ |= {"OSENV_CANARY": "os-secret-canary", "werkzeug.request": object()}
    servers_own = [
        value
        for key, value in batch_environ.items()
        if not isinstance(value, str | int | tuple) and key != "wsgi.errors"
    ]
    for member in post(batch_environ):
        assert not {"OSENV_CANARY", "HOME", "PATH", "LANG", "GATEWAY_INTERFACE"} & member.keys()
        assert "os-secret-canary" not in member.values()
        for value in member.values():
            assert not isinstance(value, socket.socket)
            assert not callable(value)
            assert not any(value is one for one in servers_own)


@pytest.mark.parametrize(
    ("mount", "encoded"),
    [(None, None), ("", ""), ("/api", "/api"), ("/caf\xc3\xa9 %", "/caf%C3%A9%20%25")],
    ids=["as-recorded", "root", "mounted", "mounted-encoded"],
)
def test_the_target_is_the_members_own_and_has_the_mount(
    batch_environ: Environ, mount: str | None, encoded: str | None
) -> None:
    if mount is None:
        mount = encoded = batch_environ["SCRIPT_NAME"]
    batch_environ["SCRIPT_NAME"] = mount
    paths, queries = ["/a%b/\xc3\xa9", "/b", "/c"], ["x=%2F", "", ""]
    members = post(batch_environ)
    for member, path, query, target in zip(members, paths, queries, TARGETS, strict=True):
        assert member["SCRIPT_NAME"] == mount
        assert (member["PATH_INFO"], member["QUERY_STRING"]) == (path, query)
        for key in REWRITTEN:
            expected = f"{encoded}{target}" if key in batch_environ else None
            assert member.get(key) == expected


def test_the_outer_environ_stays_as_it_is(batch_environ: Environ) -> None:
    before = batch_environ.copy()
    members = post(batch_environ)
    assert batch_environ.keys() == before.keys()
    assert all(batch_environ[key] is before[key] for key in before)
    assert batch_environ["wsgi.input"].taken == len(BATCH)
    assert len({id(member["wsgi.input"]) for member in members}) == len(members)
