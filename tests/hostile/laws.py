"""The laws that no request breaks, and the requests to try them with.

`tests.hostile.test_laws` tries them in CI, `tests.fuzz` for as long as one likes. Each law takes
one case and raises if it does not hold. What the middleware may do is written down here once more,
from the specification, not taken from where it is done.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.exceptions import Forbidden

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import Dialect, HTTPMultipart, ODataJSON, ODataMultipart
from batchwsgi.errors import BatchError
from batchwsgi.model import OuterRequest
from batchwsgi.rules import Rules

from .. import misbehaving
from ..misbehaving import CUT, PROBLEMS
from ..support import Environ, Reply, ask
from .answers import PROBLEM, TYPE, check

JSON = "application/json"

# --- The outer request -------------------------------------------------------------------------

_INHERITED = {
    **{"SCRIPT_NAME": "/mnt é".encode().decode("latin-1"), "SERVER_NAME": "localhost"},
    **{"SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "tests/1"},
    **{"SERVER_ADDR": "192.0.2.1", "REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "4711"},
    **{"REMOTE_HOST": "client.test", "REMOTE_USER": "ada", "HTTPS": "on"},
    **{"REQUEST_SCHEME": "https", "SSL_CLIENT_S_DN": "CN=ada"},
}
_INHERITED_HEADERS = {
    **{"HTTP_HOST": "shop.test", "HTTP_COOKIE": "session=ada", "HTTP_USER_AGENT": "tests"},
    **{"HTTP_X_FORWARDED_FOR": "198.51.100.1", "HTTP_X_REAL_IP": "198.51.100.1"},
    **{"HTTP_ORIGIN": "https://shop.test", "HTTP_REFERER": "https://shop.test/"},
    **{"HTTP_FORWARDED": "for=198.51.100.1", "HTTP_SEC_FETCH_SITE": "same-origin"},
    **{"HTTP_REMOTE_USER": "ada", "HTTP_X_TENANT": "t1", "HTTP_AUTHORIZATION": "Bearer outer"},
    **{"HTTP_ACCEPT_LANGUAGE": "zh"},
}
_NOT_INHERITED = {
    **{"HTTP_CONNECTION": "close", "HTTP_PROXY": "http://evil.test", "HTTP_RANGE": "bytes=0-"},
    **{"HTTP_X_ORIGINAL_URL": "/admin", "HTTP_IF_MATCH": "*", "HTTP_ACCEPT_ENCODING": "gzip"},
    **{"gunicorn.socket": object(), "wsgi.early_hints": print, "wsgi.file_wrapper": open},
    **{"werkzeug.request": object(), "bottle.request": object(), "webob.adhoc_attrs": {"a": 1}},
    **{"mod_wsgi.process_group": "g", "PATH": "/bin", "HOME": "/root", "SCRIPT_URL": "/batch"},
    **{"beaker.session": {"user": "ada"}, "GATEWAY_INTERFACE": "CGI/1.1"},
}
_WSGI = {
    **{"wsgi.version": (1, 0), "wsgi.url_scheme": "https", "wsgi.errors": io.StringIO()},
    **{"wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False},
}
_BEHIND = b"what comes behind the body"


def outer(body: bytes) -> Environ:
    """A batch, as a server with much of its own in the environ would hand it over."""
    return {
        **_INHERITED,
        **_INHERITED_HEADERS,
        **_NOT_INHERITED,
        **_WSGI,
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/batch",
        "QUERY_STRING": "outer=1",
        "RAW_URI": "/mnt%20%C3%A9/batch?outer=1",
        "REQUEST_URI": "/mnt%20%C3%A9/batch?outer=1",
        "CONTENT_TYPE": JSON,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body + _BEHIND),
    }


# --- Any bytes ---------------------------------------------------------------------------------


def any_bytes(body: bytes) -> None:
    """Any bytes get valid JSON, 200 or 4xx; what is refused does not reach the application.

    The outer environ stays as it is but for the position of its input, which is that of the body's
    end; the environ of each child is what the specification says; entry i answers request i.
    """
    children: list[tuple[Environ, bytes]] = []

    def app(request: Environ, start_response: Any) -> list[bytes]:
        children.append((dict(request), request["wsgi.input"].read()))
        request.clear()
        start_response("200 OK", [("Content-Type", JSON)])
        return [b"%d" % (len(children) - 1)]

    request = outer(body)
    before = dict(request)
    reply = ask(BatchMiddleware(app), request)
    assert {**request} == before
    assert list(request) == list(before)
    assert request["wsgi.input"].tell() == len(body)
    document = check(reply)
    if reply.status != 200:
        assert not children
        return
    items = json.loads(body)["requests"]
    entries = document["responses"]
    assert len(items) == len(entries) == len(children)
    for index, (item, entry) in enumerate(zip(items, entries, strict=True)):
        assert entry["body"] == (None if item.get("method", "").upper() == "HEAD" else index)
        assert entry["uri"] == item["uri"]
        assert entry["method"] == item.get("method", "get")
        assert entry.get("id") == item.get("id")
        _child(*children[index], item)


_MAY_BE_SET = frozenset(
    f"HTTP_{name.upper().replace('-', '_')}"
    for name in (
        "Accept Accept-Language Authorization Content-Language Content-Disposition If-Match "
        "If-None-Match If-Modified-Since If-Unmodified-Since If-Range Range Prefer "
        "Idempotency-Key X-Requested-With X-CSRFToken X-CSRF-Token"
    ).split()
)
_OWN = {
    *("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI", "CONTENT_LENGTH"),
    *("CONTENT_TYPE", "wsgi.input", "wsgi.input_terminated", "batchwsgi.request"),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SAME = {**_INHERITED, **_INHERITED_HEADERS, **_WSGI}


def _child(environ: Environ, body: bytes, item: dict[str, Any]) -> None:
    """The environ of one member is built by allow-list, and what the batch says is clean."""
    assert type(environ) is dict
    assert environ.keys() <= _SAME.keys() | _MAY_BE_SET | _OWN
    for key, value in _SAME.items():
        assert key in environ
        assert environ[key] is value or key in _MAY_BE_SET
    for key in environ.keys() - _WSGI.keys() - _INHERITED.keys():
        value = environ[key]
        if isinstance(value, str):
            value.encode("latin-1")
            assert not _CONTROL.search(value), (key, value)
    headers = {name.upper().replace("-", "_") for name in item.get("headers", {})}
    for key in environ.keys() & _MAY_BE_SET:
        assert key.removeprefix("HTTP_") in headers or environ[key] == _SAME[key]
    _target(environ)
    if "CONTENT_LENGTH" in environ:
        assert environ["CONTENT_LENGTH"] == str(len(body))
    else:
        assert not body
        assert environ["REQUEST_METHOD"] not in ("POST", "PUT", "PATCH")
    assert environ["wsgi.input_terminated"] is True


def _target(environ: Environ) -> None:
    method, path, query = (environ[key] for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
    assert re.fullmatch(r"[A-Z0-9!#$%&'*+.^_`|~-]+", method)
    assert method not in ("CONNECT", "TRACE")
    assert path.startswith("/") and not path.startswith("//")
    assert path != "/batch"
    assert "\\" not in path
    assert not {segment.partition(";")[0] for segment in path.split("/")} & {".", ".."}
    assert query.isascii()
    assert environ["RAW_URI"] == environ["REQUEST_URI"]
    raw = environ["RAW_URI"].removeprefix("/mnt%20%C3%A9")
    assert raw.startswith("/") and raw.isascii()
    assert len(raw) <= Limits().max_uri_length
    assert raw.partition("?")[2] == query


# --- Near misses of a batch --------------------------------------------------------------------

# Of each kind of value those that a batch may have, however odd, and those that it may not.

PIECES = ["/", "/", "a", "b", ".a", "a.", "...", "~me", "%41", "%ff", "%C3%A9", "é", "好", " "]
PIECES += ["batch", "?", "?", "&", "=", ";", "@", ":", "*", "{", '"', "\x85", "😀", "%25"]
NOT_PIECES = ["//", "/..", "/.", "/%2e", "/%2E%2e/", "/..;", "%2f", "%5C", "\\", "%00", "%0d%0A"]
NOT_PIECES += ["%", "%4", "%zz", "%7f", "/%62atch", "#", "\t", "\r\n", "\x00", "\x7f", "\ud800"]
NOT_PIECES += ["//evil.test", "http:", "a" * 4094]

METHODS = ["get", "POST", "pUt", "patch", "delete", "head", "OPTIONS", "M-SEARCH", "x!#~"]
NOT_METHODS = ["connect", "TRACE", "poſt", "GET ", "get\r\n", "", "a/b", "GET /", "\x00"]

NAMES = ["Accept", "ACCEPT-LANGUAGE", "Authorization", "Range", "If-Match", "Prefer", "x-csrftoken"]
NOT_NAMES = ["Host", "Cookie", "X-Real-IP", "Content_Type", "Content-Length", "Transfer-Encoding"]
NOT_NAMES += ["X-Forwarded-For", "Proxy", "X-Tenant", "", "Accept:", "Sec-Fetch-Site", "accept"]
NOT_NAMES += ["ſec-fetch-site", "X-Original-URL", "a\r\nb", "Expect", "wsgi.input", "Remote-User"]
VALUES = ["", " ", "a", "é", " a ", "text/*", "\x85", "\xa0", '"x"', "\\", "bytes=0-"]
NOT_VALUES = ["€", "a\r\nHost: b", "\x00", "\t", "\x7f", "a\n", "\u560a", "\ud800"]
TYPES = ["application/json", "Application/X+JSON; a=b", "text/plain", "text/plain; charset=utf-16"]
TYPES += ["application/x-www-form-urlencoded", "text/html;charset=iso-8859-1", "image/png", ""]
TYPES += ["\x85", "text/plain; charset=rot13", 'a/b; c="', "text/plain; charset*=utf-8''x"]
TYPES += ["multipart/mixed"]


def _json(odd: bool) -> st.SearchStrategy[Any]:
    characters = st.characters() if odd else st.characters(exclude_categories=["Cs"])
    text = st.text(characters, max_size=4) | st.sampled_from(["AAAA", "{$$responses", "&=#%\r\n"])
    numbers: st.SearchStrategy[Any] = st.integers(-(10**99), 10**99)
    numbers |= st.floats(allow_nan=odd, allow_infinity=odd)
    numbers |= st.just(10**100) if odd else st.just(0)
    return st.recursive(
        st.none() | st.booleans() | text | numbers,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=5,
    )


JSON_VALUES, ODD_VALUES = _json(odd=False), _json(odd=True)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "a", "é&=", "\r\n", "%"])
)
ARGS = st.dictionaries(
    st.sampled_from(["", "a", "b&c", "é", "\x00"]),
    _SCALARS | st.lists(_SCALARS, max_size=3),
    max_size=3,
)


def _words(good: list[str], bad: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(good) | st.sampled_from(bad)


def _uri(*pieces: list[str]) -> str:
    return "/a" + "".join(piece for some in pieces for piece in some)


_SOME_PIECES = st.lists(st.sampled_from(PIECES), max_size=4)
_URIS = st.builds(_uri, _SOME_PIECES)
_HEADERS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "uri": _URIS,
    "method": st.sampled_from(METHODS),
    "args": ARGS,
    "headers": _HEADERS,
    "body": JSON_VALUES,
}
"""What an item may have. They go together, but for a `body` under some types."""

WRONG: dict[str, st.SearchStrategy[Any]] = {
    "uri": st.builds(
        _uri, _SOME_PIECES, st.sampled_from(NOT_PIECES).map(lambda piece: [piece]), _SOME_PIECES
    )
    | _URIS.map(lambda uri: uri[2:]),
    "method": st.sampled_from(NOT_METHODS),
    "args": st.dictionaries(st.text(max_size=2), ODD_VALUES, max_size=2),
    "headers": st.dictionaries(_words(NAMES, NOT_NAMES), _words(VALUES, NOT_VALUES), max_size=3)
    | st.builds(lambda kind, own: {**own, "Content-Type": kind}, st.sampled_from(TYPES), _HEADERS),
    "body": ODD_VALUES,
    "id": st.sampled_from(["a", "b", "7", "", "a\n"]),
    "other": st.none(),
}


def _item(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    uri = members.pop("uri")
    return st.fixed_dictionaries({"uri": uri}, optional=members)


def _typed(kind: str, text: str, method: str) -> dict[str, Any]:
    return {"uri": "/a", "method": method, "headers": {"content-type": kind}, "body": text}


ITEMS = _item(**RIGHT) | st.builds(
    _typed,
    st.sampled_from(TYPES),
    st.sampled_from(["", "AAAA", "AA==", "é"]),
    st.sampled_from(METHODS),
)
ODD_ITEMS = ODD_VALUES | st.one_of(
    # One place is wrong, or one of the wrong type, so that nothing else hides it.
    _item(**{**RIGHT, name: wrong | ODD_VALUES})
    for name, wrong in WRONG.items()
)
DOCUMENTS = st.fixed_dictionaries(
    {"requests": st.lists(ITEMS, min_size=1, max_size=4)},
    optional={"on-fail": st.sampled_from(["ignore", "stop"])},
)
ODD_DOCUMENTS = st.fixed_dictionaries(
    {"requests": st.lists(ODD_ITEMS, min_size=1, max_size=2)}
) | st.fixed_dictionaries(
    {"requests": st.lists(ITEMS, max_size=2) | ODD_VALUES},
    optional={
        "on-fail": st.sampled_from(["ignore", "rollback", "Stop"]) | ODD_VALUES,
        "x": st.none(),
    },
)
_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 3),
        st.sampled_from(
            [b"", b"{", b"}", b"[", b"]", b'"', b",", b"\\", b"\\u", b"NaN", b"\xff", b"\x00", b" "]
        )
        | st.binary(max_size=3),
    ),
    max_size=2,
)


def written(document: Any, ascii_only: bool, edits: Sequence[tuple[float, int, bytes]]) -> bytes:
    """`document` as JSON, and then less than that: at a place, some bytes become others."""
    body = json.dumps(document, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    for place, length, replacement in edits:
        start = int(place * len(body))
        body = body[:start] + replacement + body[start + length :]
    return body


NEAR_MISSES = st.builds(
    written,
    DOCUMENTS | DOCUMENTS | ODD_DOCUMENTS,
    st.booleans(),
    st.just([]) | st.just([]) | _EDITS,
)


# --- Entry i answers request i -----------------------------------------------------------------


class Kind(NamedTuple):
    """A member: its path, and the entry's status and body; None: its own index in the batch."""

    path: str
    status: str
    body: str | None


KINDS = [
    *[Kind("/good", "200", None)] * 3,
    Kind("/refused", "403", "refused"),
    *[Kind(f"/{name}", status, body) for name, (_, status, body) in misbehaving.CASES.items()],
]
MEMBERS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=20)


def _authorize(request: Environ) -> None:
    if request["PATH_INFO"] == "/refused":
        raise Forbidden("refused")


def entries_answer_requests(kinds: Sequence[Kind], stops: bool, max_reply_size: int) -> None:
    """Entry i answers request i, whatever fails and wherever."""
    misbehaving.BODIES.clear()
    limits = Limits(max_member_size=20_000, max_reply_size=max_reply_size)
    app = BatchMiddleware(misbehaving.application, limits=limits, authorize=_authorize)
    items = [
        {"id": f"m{index}", "uri": f"{kind.path}?n={index}"} for index, kind in enumerate(kinds)
    ]
    document = {"on-fail": "stop" if stops else "ignore", "requests": items}
    reply = ask(app, outer(json.dumps(document).encode()))
    entries = check(reply)["responses"]
    assert [(entry["id"], entry["uri"]) for entry in entries] == [
        (item["id"], item["uri"]) for item in items
    ]
    ended = ""
    for index, (entry, kind) in enumerate(zip(entries, kinds, strict=True)):
        if ended:
            assert _problem(entry) == ended
            continue
        if "(Limits.max_reply_size)" in str(entry["body"]):
            assert _problem(entry) == CUT
            ended = "reply-limit"
            continue
        _as_its_kind(entry, kind, index)
        if stops and kind.status >= "400":
            ended = "stopped"


def _as_its_kind(entry: dict[str, Any], kind: Kind, index: int) -> None:
    assert entry["status_code"] == kind.status
    if kind.body in PROBLEMS:
        assert _problem(entry) == kind.body
    elif kind.body is None:
        assert entry["body"]["QUERY_STRING"] == f"n={index}"
        assert entry["body"]["REMOTE_ADDR"] == _INHERITED["REMOTE_ADDR"]
        assert entry["body"]["HTTP_AUTHORIZATION"] == _INHERITED_HEADERS["HTTP_AUTHORIZATION"]
        assert entry["body"]["planted"] is False
    elif kind.status == "403":
        assert kind.body in entry["body"]
    else:
        assert (entry["body"] or "") == kind.body


def _problem(entry: dict[str, Any]) -> str:
    assert entry["headers"] == {"Content-Type": PROBLEM}
    return str(entry["body"]["type"]).removeprefix(TYPE)


# --- Malformed members -------------------------------------------------------------------------

WELL_FORMED = [{"uri": "/good"}, {"uri": "/x", "method": "post", "body": None}]
MALFORMED: list[tuple[Any, set[str]]] = [
    (None, {""}),
    ({}, {""}),
    ({"uri": "//x"}, {"/uri"}),
    ({"uri": "/x", "a/b": 1, "c~": 2}, {"/a~1b", "/c~0"}),
    ({"uri": "/x", "method": "a b", "args": 1}, {"/method", "/args"}),
    ({"uri": "/x", "headers": {"Host": "h", "Cookie": "c"}}, {"/headers/Host", "/headers/Cookie"}),
    ({"uri": "/x", "args": {"a": [1, {}]}}, {"/args/a/1"}),
    ({"uri": "/x", "headers": {"Content-Type": "image/png"}, "body": "!"}, {"/body"}),
]
ITEM_KINDS = st.lists(
    st.sampled_from([(item, set()) for item in WELL_FORMED]) | st.sampled_from(MALFORMED),
    min_size=1,
    max_size=20,
)


def faults_are_where_they_are(items: Sequence[tuple[Any, set[str]]]) -> None:
    """Every fault of every member is found, at its place, and nothing runs if there is one."""
    called: list[str] = []

    def app(request: Environ, start_response: Any) -> list[bytes]:
        called.append(request["PATH_INFO"])
        start_response("204 No Content", [])
        return []

    body = json.dumps({"requests": [item for item, _ in items]}).encode()
    reply: Reply = ask(BatchMiddleware(app), outer(body))
    document = check(reply)
    places = [
        f"/requests/{index}{pointer}"
        for index, (_, pointers) in enumerate(items)
        for pointer in pointers
    ]
    assert reply.status == (400 if places else 200)
    if places:
        assert sorted(fault["pointer"] for fault in document["errors"]) == sorted(places)
        assert not called
    else:
        assert called == [item["uri"] for item, _ in items]


# --- A reply is JSON ---------------------------------------------------------------------------

CONTENT_TYPES = st.sampled_from(
    [
        *["application/json", "application/x+json", "text/plain", "text/html; charset=utf-16"],
        *["text/plain; charset=utf-7", "application/json; charset=iso-8859-1", "image/png", ""],
        *["text/plain; charset=shift_jis", "application/xml; charset=rot13", "text/x; charset="],
    ]
)
FIELDS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=6)), max_size=3)


def replies_cannot_forge(body: bytes, content_type: str, fields: list[tuple[str, str]]) -> None:
    """Whatever a member answers, the whole reply is JSON, and its neighbours' entries stand."""

    def app(request: Environ, start_response: Any) -> list[bytes]:
        if request["PATH_INFO"] == "/x":
            start_response("200 OK", [("Content-Type", content_type), *fields])
            return [body]
        start_response("200 OK", [("Content-Type", JSON)])
        return [json.dumps(request["PATH_INFO"]).encode()]

    document = {"requests": [{"uri": "/a"}, {"uri": "/x"}, {"uri": "/b"}]}
    reply = ask(BatchMiddleware(app), outer(json.dumps(document).encode()))
    assert reply.status == 200
    for name, value in reply.headers:
        assert not _CONTROL.search((name + value).replace("\t", "")), (name, value)
    # The member's own JSON may have a name twice; that is its own matter, as it is sent alone.
    first, member, last = json.loads(reply.body, parse_constant=_not_json)["responses"]
    assert (first["uri"], first["body"]) == ("/a", "/a")
    assert (last["uri"], last["body"]) == ("/b", "/b")
    assert member["uri"] == "/x"
    assert member.keys() <= {"method", "uri", "status_code", "headers", "body", "encoding"}


def _not_json(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


# --- All of them -------------------------------------------------------------------------------


class Law(NamedTuple):
    """A law, the cases to try it with, and with how many of them in CI."""

    holds: Callable[..., None]
    cases: tuple[st.SearchStrategy[Any], ...]
    examples: int = 250
    takes_bytes: bool = False
    """Whether a case is bytes, any bytes: a fuzzer can then make them itself."""


_SIZES = st.sampled_from([2_000, 40_000, 8 * 1024 * 1024])

_MIXED = "multipart/mixed; boundary=b"
_DIALECTS: dict[str, tuple[Dialect, str]] = {
    "odata_json": (ODataJSON(), JSON),
    "odata_multipart": (ODataMultipart(), _MIXED),
    "http_multipart": (HTTPMultipart(), _MIXED),
}
_PIECES = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\r\n",
        b"\n",
        b"\n\n",
        b"Content-Type: application/http",
        b"GET /x HTTP/1.1",
    ]
    + [b"Content-Type: multipart/mixed; boundary=c", b"--c", b"--c--", b"POST $1/x", b"Host: h"]
    + [b"Content-ID: <1>", b"Content-Length: 3", b'{"requests": [', b'{"id": "1"', b', "url": "x"']
    + [b', "method": "GET"', b"}", b"]", b', "atomicityGroup": "g"', b', "dependsOn": ["1"]', b" "]
)


def any_bytes_in_a_dialect(name: str, pieces: Sequence[bytes]) -> None:
    """Any bytes are a batch with members, or a `BatchError` that can be told."""
    dialect, content_type = _DIALECTS[name]
    headers = Headers({"Content-Type": content_type})
    rules = Rules("/service/$batch", Limits(), can_roll_back=True)
    try:
        batch = dialect.decode(b"".join(pieces), OuterRequest(headers, host="shop.test"), rules)
    except BatchError as error:
        json.loads(error.document(dialect.refusal(error)))
    else:
        assert [member.index for member in batch.members] == [*range(len(batch.members))]
        assert batch.members
        groups = [member.group for member in batch.members if member.group is not None]
        assert batch.needs_transaction == (len(set(groups)) < len(groups))


LAWS = {
    "any_bytes_in_a_dialect": Law(
        any_bytes_in_a_dialect,
        (st.sampled_from([*_DIALECTS]), st.lists(_PIECES | st.binary(max_size=4), max_size=40)),
    ),
    "any_bytes": Law(any_bytes, (st.binary(),), takes_bytes=True),
    "near_misses": Law(any_bytes, (NEAR_MISSES,), 500),
    "entries_answer_requests": Law(entries_answer_requests, (MEMBERS, st.booleans(), _SIZES)),
    "faults_are_where_they_are": Law(faults_are_where_they_are, (ITEM_KINDS,)),
    "replies_cannot_forge": Law(
        replies_cannot_forge,
        (st.binary() | st.text().map(str.encode) | NEAR_MISSES, CONTENT_TYPES, FIELDS),
    ),
}
