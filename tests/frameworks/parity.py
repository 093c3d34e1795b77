"""The requests of the parity tests, how each is sent alone, and how the two replies compare.

The request sent alone is built by werkzeug's `EnvironBuilder`: nothing of the package under test
takes part.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header
from werkzeug.test import EnvironBuilder

from ..support import App, Reply, ask
from .bottle_app import make_app as bottle_app
from .content import ADA, CHUNKS, GERMAN, JAPANESE, PNG
from .django_app import make_app as django_app
from .falcon_app import make_app as falcon_app
from .flask_app import make_app as flask_app
from .mini_app import make_app as mini_app
from .pyramid_app import make_app as pyramid_app

FRAMEWORKS = {
    "flask": flask_app,
    "django": django_app,
    "bottle": bottle_app,
    "pyramid": pyramid_app,
    "falcon": falcon_app,
    "mini": mini_app,
}

ANYTHING = object()
OUTER_HEADERS = {
    "Accept": "application/json",
    "Accept-Language": "de",
    "Authorization": "Bearer outer",
    "Cookie": "who=ada; other=1",
    "User-Agent": "tests",
}


class Case(NamedTuple):
    """One request: as an item of a batch, and as `EnvironBuilder` makes it."""

    item: dict[str, Any]
    alone: dict[str, Any]
    status: Any
    """A number, or `ANYTHING` where the frameworks do not agree."""
    body: Any
    """The value of a JSON body, the text, the bytes, or None: what all frameworks answer."""


def case(
    uri: str,
    status: Any = 200,
    body: Any = ANYTHING,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    item: Mapping[str, Any] | None = None,
    alone: Mapping[str, Any] | None = None,
) -> Case:
    """A case; `item` is what only the item says, `alone` what only the builder is told."""
    return Case(
        {"method": method.lower(), "uri": uri, "headers": dict(headers or {}), **(item or {})},
        {"method": method, "path": uri, "headers": dict(headers or {}), **(alone or {})},
        status,
        body,
    )


def raw(method: str, kind: str | None, body: bytes | None) -> dict[str, Any]:
    """What `/raw` answers to this request."""
    length = None if body is None else str(len(body))
    return {"method": method, "type": kind, "length": length, "body": (body or b"").hex()}


_FORM = {"name": "Zoë & Söhne", "tag": ["a", "b=c"]}
_FORM_BYTES = b"name=Zo%C3%AB+%26+S%C3%B6hne&tag=a&tag=b%3Dc"
_MULTIPART_BYTES = (
    "--limit\r\nContent-Disposition: form-data; name=name\r\n\r\nZoë & Söhne\r\n"
    "--limit\r\nContent-Disposition: form-data; name=tag\r\n\r\na\r\n"
    "--limit\r\nContent-Disposition: form-data; name=tag\r\n\r\nb=c\r\n--limit--\r\n"
).encode()
_URLENCODED = "application/x-www-form-urlencoded"
_DOCUMENT = {"n": [1, -2.5, None, True], "text": 'é "三" \U0001f600', "deep": {"a": [{}]}}
_DOCUMENT_BYTES = json.dumps(_DOCUMENT, separators=(",", ":")).encode()
_LATIN_TYPE = {"Content-Type": "text/plain; charset=iso-8859-1"}

CASES: dict[str, Case] = {
    "json": case("/json", body=ADA),
    "head": case("/json", body=None, method="HEAD"),
    "latin-1": case("/text", body=GERMAN),
    "head-latin-1": case("/text", 200, None, method="HEAD"),
    "shift-jis": case("/shift-jis", body=JAPANESE),
    "image": case("/image", body=PNG),
    "empty": case("/empty", 204, None),
    "redirect": case("/redirect", 302),
    "bad-request": case("/bad", 400),
    "not-found": case("/nowhere", 404),
    "not-found-html": case("/nowhere", 404, headers={"Accept": "text/html"}),
    "head-not-found": case("/nowhere", 404, None, method="HEAD"),
    "method-not-allowed": case("/json", 405, method="DELETE"),
    "options": case("/json", ANYTHING, method="OPTIONS"),
    "crash": case("/crash", 500),
    "own-error-page": case("/teapot", 418, {"own": 418}),
    "cookies": case("/cookies/set", body=ADA),
    "headers": case("/headers", body=ADA),
    "stream": case("/stream", body="".join(CHUNKS)),
    "etag": case("/etag", body=ADA),
    "not-modified": case("/etag", 304, None, headers={"If-None-Match": '"v1"'}),
    "form": case("/form", body=_FORM, method="POST", item={"args": _FORM}, alone={"data": _FORM}),
    "form-text": case(
        "/form",
        body=_FORM,
        method="POST",
        headers={"Content-Type": _URLENCODED},
        item={"body": _FORM_BYTES.decode()},
        alone={"data": _FORM_BYTES},
    ),
    "form-multipart": case(
        "/form",
        body=_FORM,
        method="POST",
        headers={"Content-Type": "multipart/form-data; boundary=limit"},
        item={"body": b64encode(_MULTIPART_BYTES).decode()},
        alone={"data": _MULTIPART_BYTES},
    ),
    "json-post": case(
        "/echo",
        body={"echo": _DOCUMENT},
        method="POST",
        item={"body": _DOCUMENT},
        alone={"json": _DOCUMENT},
    ),
    "json-args": case(
        "/echo",
        body={"echo": _DOCUMENT},
        method="POST",
        headers={"Content-Type": "application/json"},
        item={"args": _DOCUMENT},
        alone={"json": _DOCUMENT},
    ),
    "query-in-uri": case(
        "/query?tag=a&tag=b&q=caf%C3%A9+x%26", body={"q": "café x&", "tag": ["a", "b"]}
    ),
    "query-in-args": case(
        "/query",
        body={"q": "café x&", "tag": ["a", "b"]},
        item={"args": {"q": "café x&", "tag": ["a", "b"]}},
        alone={"query_string": {"q": "café x&", "tag": ["a", "b"]}},
    ),
    "query-in-both": case(
        "/query?tag=a",
        body={"q": "2", "tag": ["a", "b"]},
        item={"args": {"tag": "b", "q": 2}},
        alone={"path": "/query?tag=a&tag=b&q=2"},
    ),
    "no-query": case("/query", body={"q": None, "tag": []}),
    "path-encoded": case("/path/J%C3%BCrgen%20%E4%B8%89", body={"name": "Jürgen 三"}),
    "path-not-ascii": case("/path/Jürgen 三", body={"name": "Jürgen 三"}),
    "path-percent": case("/path/100%25%20%253B", body={"name": "100% %3B"}),
    "path-delimiters": case("/path/a+b=c@d:e,f!g", body={"name": "a+b=c@d:e,f!g"}),
    "put": case(
        "/raw",
        body=raw("PUT", "application/json", _DOCUMENT_BYTES),
        method="PUT",
        item={"body": _DOCUMENT},
        alone={"data": _DOCUMENT_BYTES, "content_type": "application/json"},
    ),
    "put-text": case(
        "/raw",
        body=raw("PUT", "text/plain; charset=iso-8859-1", GERMAN.encode("latin-1")),
        method="PUT",
        headers=_LATIN_TYPE,
        item={"body": GERMAN},
        alone={"data": GERMAN.encode("latin-1")},
    ),
    "put-base64": case(
        "/raw",
        body=raw("PUT", "image/png", b"\x89PNG\x00\xff"),
        method="PUT",
        headers={"Content-Type": "image/png"},
        item={"body": "iVBORwD/"},
        alone={"data": b"\x89PNG\x00\xff"},
    ),
    "patch": case(
        "/raw",
        body=raw("PATCH", "application/merge-patch+json", b'{"n":null}'),
        method="PATCH",
        headers={"Content-Type": "application/merge-patch+json"},
        item={"body": {"n": None}},
        alone={"data": b'{"n":null}'},
    ),
    "patch-form": case(
        "/raw",
        body=raw("PATCH", _URLENCODED, _FORM_BYTES),
        method="PATCH",
        item={"args": _FORM},
        alone={"data": _FORM},
    ),
    "delete": case("/raw", body=raw("DELETE", None, None), method="DELETE"),
    "delete-with-body": case(
        "/raw",
        body=raw("DELETE", "application/json", b"[7]"),
        method="DELETE",
        item={"body": [7]},
        alone={"data": b"[7]", "content_type": "application/json"},
    ),
    "post-without-body": case(
        "/raw", body=raw("POST", None, b""), method="POST", alone={"content_length": 0}
    ),
    "own-headers": case(
        "/seen",
        body={"language": "zh, en;q=0.5", "authorization": "Bearer own", "agent": "tests"}
        | {"cookie": "ada"},
        headers={"Accept-Language": "zh, en;q=0.5", "Authorization": "Bearer own"},
    ),
    "inherited-headers": case(
        "/seen",
        body={"language": "de", "authorization": "Bearer outer", "agent": "tests"}
        | {"cookie": "ada"},
    ),
}


def sent_alone(app: App, case: Case, mount: str = "") -> Reply:
    """The reply to the case's request, sent to `app` on its own."""
    builder = EnvironBuilder(
        base_url=f"http://localhost{mount}/",
        environ_base={"REMOTE_ADDR": "192.0.2.7"},
        **{**case.alone, "headers": OUTER_HEADERS | case.alone["headers"]},
    )
    reply = ask(app, builder.get_environ())
    if builder.method == "HEAD" or reply.status in (204, 304):
        return reply._replace(body=b"")  # as every server does
    return reply


_NOT_COMPARED = frozenset(
    (
        "date set-cookie connection keep-alive proxy-authenticate proxy-authorization te trailer "
        "transfer-encoding upgrade"
    ).split()
)


def compared_headers(headers: Headers | dict[str, str]) -> dict[str, str]:
    """The headers that have to be the same, those of one name joined, in their order."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() not in _NOT_COMPARED:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def carried_body(entry: dict[str, Any], content_type: str) -> Any:
    """The body of an entry as its `encoding` says: a JSON value, text, bytes, or None."""
    if "encoding" not in entry:
        return entry["body"]
    assert isinstance(entry["body"], str)
    if entry["encoding"] == "base64":
        return b64decode(entry["body"], validate=True)
    assert entry["encoding"] == "text", content_type
    return entry["body"]


def expected_body(reply: Reply) -> Any:
    """The body of a reply as an entry has to carry it, told from its `Content-Type`."""
    if not reply.body:
        return None
    kind, parameters = parse_options_header(reply.headers.get("Content-Type"))
    if kind == "application/json":
        return json.loads(reply.body)
    if kind.startswith("text/"):
        return reply.body.decode(parameters.get("charset", "utf-8"))
    return reply.body


def expected_cookies(reply: Reply, path: str) -> list[str]:
    """The cookies of a reply, each with the Path that a browser would give it."""
    return [
        cookie if "path=" in cookie.lower() else f"{cookie}; Path={path}"
        for cookie in reply.headers.getlist("Set-Cookie")
    ]
