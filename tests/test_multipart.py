"""Multipart batches, of OData and of Google's APIs: how they are read, and how the reply looks."""

from __future__ import annotations

import re
import tracemalloc
from contextlib import contextmanager, suppress
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from batchwsgi import BatchMiddleware, Limits, Response
from batchwsgi.dialects.multipart import HTTPMultipart, MultipartWriter, ODataMultipart
from batchwsgi.errors import BatchError, Malformed, TooLarge
from batchwsgi.model import Batch, Member, OnFail, OuterRequest, Problem, Request
from batchwsgi.rules import Rules

from .support import ask, echo, environ

RULES = Rules("/v1/$batch", Limits(), can_roll_back=True)
BATCH = Batch((), OnFail.IGNORE, 0)
GET = "GET /me HTTP/1.1\r\n\r\n"


def outer(content_type="multipart/mixed; boundary=b", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OuterRequest(Headers({"Content-Type": content_type, **named}), host="localhost")


def part(message=GET, *more, kind="application/http"):
    """A part with that content; `more` are lines of its head."""
    return "".join(f"{line}\r\n" for line in [f"Content-Type: {kind}", *more]) + f"\r\n{message}"


def body(*parts, boundary="b"):
    """A multipart body with these parts, as bytes."""
    text = "".join(f"--{boundary}\r\n{each}\r\n" for each in parts)
    return f"{text}--{boundary}--\r\n".encode("latin-1")


def change_set(*messages, boundary="c"):
    """A part that is a change set of these parts."""
    content = body(*messages, boundary=boundary).decode("latin-1")
    return part(content, kind=f"multipart/mixed; boundary={boundary}")


def decode(document, asked=None, rules=RULES, dialect=None):
    return (dialect or ODataMultipart()).decode(document, asked or outer(), rules)


def requests(*parts, **options):
    """The requests of a batch of these parts."""
    return [member.request for member in decode(body(*parts), **options).members]


def request(message, *more, **options):
    (only,) = requests(part(message, *more), **options)
    return only


def faults(document, *arguments, **options):
    with pytest.raises(Malformed) as caught:
        decode(document, *arguments, **options)
    return {fault.pointer: fault.detail for fault in caught.value.faults.listed}


def part_faults(message, *more, kind="application/http", **options):
    """The faults of a batch of this one part, their pointers relative to it."""
    found = faults(body(part(message, *more, kind=kind)), **options)
    assert all(pointer.startswith("/0") for pointer in found)
    return {pointer.removeprefix("/0"): detail for pointer, detail in found.items()}


# --- The boundary ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/mixed; boundary=b", "b"),
        ("multipart/mixed;boundary=b", "b"),
        ("multipart/mixed ; charset=iso-8859-1; BOUNDARY = b ", "b"),
        ('multipart/mixed; boundary="b"', "b"),
        ('multipart/mixed; boundary="b" ; charset=utf-8', "b"),
        (r'multipart/mixed; boundary="\b\a"', "ba"),
        ("multipart/mixed; boundary=----=_Part_0", "----=_Part_0"),
        ("multipart/mixed; boundary=batch_(36522ad7-fc75)/x?", "batch_(36522ad7-fc75)/x?"),
        ('multipart/mixed; boundary="a b"', "a b"),
        ("multipart/mixed; boundary=b; boundary=other", "b"),
        ('multipart/mixed; note="; boundary=other"; boundary=b', "b"),
        ('multipart/mixed; note="\\"; boundary=other"; boundary=b', "b"),
        ("multipart/mixed; lone; boundary=b", "b"),
        ("multipart/mixed; boundary=" + "x" * 70, "x" * 70),
        ("multipart/mixed; boundary=.+?()", ".+?()"),
    ],
)
def test_boundary(content_type, boundary):
    document = body(part(), boundary=boundary)
    assert len(decode(document, outer(content_type)).members) == 1


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed",
        "multipart/mixed; boundary",
        "multipart/mixed; boundary=",
        'multipart/mixed; boundary=""',
        'multipart/mixed; boundary="b',
        'multipart/mixed; boundary="b"c',
        'multipart/mixed; boundary="b "',
        'multipart/mixed; boundary="b\\"c"',
        "multipart/mixed; boundary=b*",
        "multipart/mixed; boundary=é",
        "multipart/mixed; boundary=" + "x" * 71,
        'multipart/mixed; boundary=""; boundary=b',
        "",
    ],
)
def test_no_boundary(content_type):
    assert list(faults(body(part()), outer(content_type))) == [""]
    assert list(faults(body(part(part(), kind=content_type or "multipart/mixed")))) == [
        "/0/headers/Content-Type"
    ]


def test_no_content_type_at_all():
    assert list(faults(body(part()), OuterRequest())) == [""]


# --- Delimiters --------------------------------------------------------------------------------


def paths(document, **options):
    return [member.request.target for member in decode(document, **options).members]


@pytest.mark.parametrize("line_break", ["\r\n", "\n"])
def test_preamble_and_epilogue(line_break):
    text = body(part("GET /a HTTP/1.1\r\n\r\n"), part("GET /b HTTP/1.1\r\n\r\n")).decode()
    text = f"a preamble\r\n--bb\r\n--b x\r\n--b--x\r\n{text}--b\r\nan epilogue\r\n--b--"
    assert paths(text.replace("\r\n", line_break).encode()) == ["/v1/a", "/v1/b"]


def test_mixed_line_breaks_and_trailing_blanks():
    document = (
        b"--b \t\nContent-Type: application/http\r\n\nPOST /a HTTP/1.1\n"
        b"Content-Type:text/plain\r\n\nx\r\n--b\t\r\nContent-Type: application/http\n\r\n"
        b"POST /b HTTP/1.1\r\n\ny\n--b-- \t"
    )
    members = decode(document).members
    assert [member.request.body for member in members] == [b"x", b"y"]
    assert members[0].request.headers == [("Content-Type", "text/plain")]


@pytest.mark.parametrize("end", [b"--b--", b"--b--\r", b"--b--\n", b"--b--\r\n--c"])
def test_end_after_the_closing_delimiter(end):
    assert len(decode(body(part()).removesuffix(b"--b--\r\n") + end).members) == 1


@pytest.mark.parametrize(
    "document",
    [b"", b"x", b"--b", b"--b\r\n", b"\r\n--bb--", b"--b--x", b" --b--", b"--B--", b"\r--b--"],
)
def test_early_end(document):
    assert faults(document) == {"": "it ends early: there is no closing delimiter"}


def test_early_end_after_a_part():
    document = body(part(), part())
    for cut in range(document.rindex(b"\r\n--b--") + 6):
        assert "it ends early" in faults(document[:cut])[""]
    assert len(decode(document[: document.rindex(b"\r\n--b--") + 7]).members) == 2


@pytest.mark.parametrize("document", [b"--b--", b"x\r\n--b--\r\n", b"\n--b--\n--b\n\n--b--"])
def test_no_parts(document):
    assert faults(document) == {"": "there are no parts, at least 1"}


def test_part_without_any_line():
    for document in (b"--b\r\n--b--", b"--b\n--b--", b"--b\r\n\r\n--b--", b"--b\n\n\n--b--"):
        assert list(faults(document)) == ["/0/headers/Content-Type"]


def test_a_line_of_a_body_that_begins_like_a_delimiter():
    text = "POST /a HTTP/1.1\r\n\r\n--bb\r\n--b c\r\n --b\r\nx--b\r\n--b--c\r\n--"
    assert request(text).body == text.partition("\r\n\r\n")[2].encode()


# --- The head of a part ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["application/http", "Application/HTTP ; msgtype=request; version=1.1", " application/http;x"],
)
def test_type_of_a_part(kind):
    assert len(decode(body(part(kind=kind))).members) == 1


@pytest.mark.parametrize("kind", ["", "text/plain", "application/httpx", "multipart/mixed2"])
def test_other_type_of_a_part(kind):
    assert part_faults(GET, kind=kind) == {
        "/headers/Content-Type": f"{kind!r} is not application/http or multipart/mixed"
    }
    assert part_faults(GET, kind=kind, dialect=HTTPMultipart()) == {
        "/headers/Content-Type": f"{kind!r} is not application/http"
    }


def test_no_change_set_outside_odata():
    detail = "'multipart/mixed; boundary=c' is not application/http"
    found = faults(body(part(), change_set(part())), dialect=HTTPMultipart())
    assert found == {"/1/headers/Content-Type": detail}


@pytest.mark.parametrize("encoding", ["binary", "8bit", "7BIT", " Binary\t"])
def test_transfer_encoding(encoding):
    line = f"Content-Transfer-Encoding:{encoding}"
    assert request(f"GET /a HTTP/1.1\r\n{line}\r\n\r\n", line, line).headers == []


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "", "binary, base64"])
def test_other_transfer_encoding(encoding):
    line = f"Content-Transfer-Encoding: {encoding}"
    expected = {"/headers/Content-Transfer-Encoding": f"{encoding!r} is not binary, 8bit or 7bit"}
    assert part_faults(GET, line) == expected
    assert part_faults(f"GET /a HTTP/1.1\r\n{line}\r\n\r\n") == expected
    assert part_faults(GET, line.replace(":", " :")) == expected
    found = faults(body(change_set(part()).replace("\r\n\r\n", f"\r\n{line}\r\n\r\n", 1)))
    assert list(found) == ["/0/headers/Content-Transfer-Encoding"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Content-Type", ["application/http", "text/plain"]),
        ("Content-Transfer-Encoding", ["binary", "8bit"]),
        ("Content-ID", ["1", "2"]),
    ],
)
def test_twice_with_different_values(name, values):
    lines = [f"{name}: {values[0]}", f"{name.lower()}: {values[1]}"]
    assert part_faults(GET, *lines) == {
        f"/headers/{name}": f"{name} stands twice, with different values"
    }
    assert len(decode(body(part(GET, lines[0], lines[0]))).members) == 1


@pytest.mark.parametrize("line", [" folded", "\tfolded", "no colon", "GET /me HTTP/1.1"])
def test_line_that_is_none(line):
    for name, message in (("part", part(GET, "X: y", line)), ("request", None)):
        message = message or part(f"GET /a HTTP/1.1\r\nAccept: a\r\n{line}\r\n\r\n")
        found = faults(body(part(), part(), message))
        assert list(found) == ["/2/headers"], name


def test_other_headers_of_a_part_are_ignored():
    assert request(GET, "Host: x", "X-Anything:", ": y", "Content-Length: 3").headers == []


def test_too_many_headers():
    rules = Rules("/batch", Limits(max_headers=3))
    lines = ["A: b"] * 2
    assert len(decode(body(part(GET, *lines)), rules=rules).members) == 1
    expected = {"/headers": "4 headers, at most 3 (Limits.max_headers)"}
    assert part_faults(GET, "A: b", *lines, rules=rules) == expected
    message = "GET /a HTTP/1.1\r\n" + "Accept: b\r\n" * 4 + "\r\n"
    assert part_faults(message, rules=rules) == expected


# --- The request line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "method", "target"),
    [
        ("GET /a HTTP/1.1", "GET", "/v1/a"),
        ("get /a HTTP/1.0", "GET", "/v1/a"),
        ("PATCH a", "PATCH", "/v1/a"),
        ("GET   /a   HTTP/1.1  ", "GET", "/v1/a"),
        ("GET \t/a\t HTTP/1.1\t", "GET", "/v1/a"),
        ("GET /a ", "GET", "/v1/a"),
        ("GET HTTP/1.1", "GET", "/v1/"),
        ("GET  HTTP/1.1", "GET", "/v1/"),
        ("GET ", "GET", "/v1/"),
        ("GET ?x HTTP/1.1", "GET", "/v1/?x"),
        ("GET a?$filter=Name eq 'Rob' HTTP/1.1", "GET", "/v1/a?$filter=Name%20eq%20'Rob'"),
        ("GET a?q=HTTP/1.1", "GET", "/v1/a?q=HTTP/1.1"),
        ("GET a?q=xHTTP/1.1 HTTP/1.1", "GET", "/v1/a?q=xHTTP/1.1"),
        ("GET /caf\xc3\xa9 HTTP/1.1", "GET", "/v1/caf%C3%A9"),
        ("GET http://localhost/v1/a?b HTTP/1.1", "GET", "/v1/a?b"),
    ],
)
def test_request_line(line, method, target):
    made = request(f"{line}\r\n\r\n")
    assert (made.method, made.target) == (method, target)


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ("GET", ""),
        ("GET/a", ""),
        ("GET\t/a", ""),
        ("", ""),
        ("GET /a HTTP/1.1 HTTP/1.1", "/url"),
        ("GET HTTP/1.1 HTTP/1.1", "/url"),
        ("GET /a HTTP/2", "/url"),
        ("GET /a HTTP/1.10", "/url"),
        ("GET /a HTTP/x b HTTP/1.1", "/url"),
        ("GET /a\tHTTP/1.1", "/url"),
        ("GET /caf\xe9 HTTP/1.1", "/url"),
        ("GET /a\rb HTTP/1.1", "/url"),
        ("GET /a\x00b HTTP/1.1", "/url"),
        ("GET /a#b HTTP/1.1", "/url"),
        ("GET //a HTTP/1.1", "/url"),
        ("GET http://other/v1/a HTTP/1.1", "/url"),
        ("GET /v1/$batch HTTP/1.1", "/url"),
        ("GET /v1/../a HTTP/1.1", "/url"),
        (" GET /a HTTP/1.1", "/method"),
        (" /a HTTP/1.1", "/method"),
        ("G(T /a HTTP/1.1", "/method"),
        ("CONNECT /a HTTP/1.1", "/method"),
        ("caf\xe9 /a HTTP/1.1", "/method"),
    ],
)
def test_what_is_no_request_line(line, pointer):
    found = faults(
        body(part(), part(), part(f"{line}\r\nAccept: a\r\n\r\n"[: None if line else 0]))
    )
    assert list(found) == [f"/2{pointer}"]


def test_blank_lines_before_the_request_line():
    assert request("\r\n\n \t\r\n\r\nGET /a HTTP/1.1\r\n\r\n").target == "/v1/a"
    assert part_faults("\r\n\r\n") == {"": "there is no request line"}
    assert part_faults(" \t") == {"/method": "'' is not a method (RFC 9110 §9.1)"}


@pytest.mark.parametrize(
    "message",
    [
        "POST /a HTTP/1.1",
        "POST /a HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n\r\n",
        "POST /a HTTP/1.1\nAccept: x",
        "POST /a HTTP/1.1\r\nAccept: x\r\n",
        "POST /a HTTP/1.1\r\nAccept: x\r\n\r\n",
    ],
)
def test_part_that_ends_within_its_header_lines(message):
    made = request(message)
    assert (made.target, made.body) == ("/v1/a", b"")
    assert made.headers == ([("Accept", "x")] if "Accept" in message else [])


def test_part_that_ends_within_its_own_head():
    assert faults(b"--b\r\nContent-Type: application/http\r\n--b--") == {
        "/0": "there is no request line"
    }


# --- Headers of a request ----------------------------------------------------------------------


def test_headers():
    lines = 'Accept:a/b\r\nIf-Match:  "x" \t\r\nPrefer: caf\xe9\r\nHost: h\r\nHost: i\r\nDate:\r\n'
    assert request(f"GET /a HTTP/1.1\r\n{lines}\r\n").headers == [
        ("Accept", "a/b"),
        ("If-Match", '"x"'),
        ("Prefer", "café"),
    ]


def test_headers_of_odata_in_odata_alone():
    lines = "OData-Version: 4.0\r\nDataServiceVersion: 2.0\r\n"
    message = f"GET /a HTTP/1.1\r\n{lines}\r\n"
    assert len(request(message).headers) == 2
    assert list(part_faults(message, dialect=HTTPMultipart())) == [
        "/headers/OData-Version",
        "/headers/DataServiceVersion",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "X-HTTP-Method: MERGE",
        "Cookie: a",
        "Accept : a",
        ": a",
        "X y: z",
        "Accept: a\rb",
        "A\x00: b",
    ],
)
def test_headers_that_are_faults(line):
    name = line.partition(":")[0]
    assert list(part_faults(f"GET /a HTTP/1.1\r\n{line}\r\n\r\n")) == [f"/headers/{name}"]
    found = faults(body(part(), change_set(part(f"GET /a HTTP/1.1\r\n{line}\r\n\r\n"))))
    assert list(found) == [f"/1/0/headers/{name}"]


def test_header_twice():
    message = "GET /a HTTP/1.1\r\nAccept: a\r\naccept: a\r\n\r\n"
    assert list(part_faults(message)) == ["/headers/accept"]


def test_every_fault_is_found():
    bad = "G( //x HTTP/1.1\r\nCookie: a\r\nX-Y: b\r\n\r\n"
    assert list(faults(body(part(bad), part(" x: y", kind="a/b"), part("GET")))) == [
        "/1/headers/Content-Type",
        "/2",
        "/0/headers/Cookie",
        "/0/headers/X-Y",
        "/0/method",
        "/0/url",
    ]


# --- Bodies ------------------------------------------------------------------------------------


def posted(content, length=None, method="POST"):
    line = "" if length is None else f"Content-Length: {length}\r\n"
    return f"{method} /a HTTP/1.1\r\n{line}\r\n{content}"


@pytest.mark.parametrize(
    ("content", "length", "expected"),
    [
        ("abc", None, b"abc"),
        ("abc\r\n", None, b"abc\r\n"),
        ("abc\n\n", None, b"abc\n\n"),
        ("\r\n\r\nabc", None, b"\r\n\r\nabc"),
        (" \r\n", None, b" \r\n"),
        ("\x00\xff\r", None, b"\x00\xff\r"),
        ("", 0, b""),
        ("\r\n", 0, b""),
        ("abc", 3, b"abc"),
        ("abc", "003", b"abc"),
        ("abc\r\n", 3, b"abc"),
        ("abc\r\n", 5, b"abc\r\n"),
        ("abc\r\n\n\r\n", 3, b"abc"),
        ("abc\r\n\n\r\n", 5, b"abc\r\n"),
        ("abc ", 3, b"abc "),
        ("abc\r\nd\r\n", 3, b"abc\r\nd\r\n"),
        ("caf\xc3\xa9", 4, b"caf\xc3\xa9"),
        ("\xc3\xa9\r\n", 1, b"\xc3\xa9\r\n"),
        ("abc", 0, b"abc"),
    ],
)
def test_body(content, length, expected):
    assert request(posted(content, length)).body == expected


@pytest.mark.parametrize(
    "length", ["4", "1" * 18, "1" * 5000, "-1", "+3", "3.0", "", "x", "3, 3", "\xb2", "0x3", "1_0"]
)
def test_wrong_content_length(length):
    assert list(part_faults(posted("abc", length))) == ["/headers/Content-Length"]
    assert list(part_faults(posted("", length, "GET"))) == ["/headers/Content-Length"]


def test_content_length_twice():
    same = "Content-Length: 3\r\ncontent-length:3"
    assert request(f"POST /a HTTP/1.1\r\n{same}\r\n\r\nabc").body == b"abc"
    different = f"{same}\r\nContent-Length: 03"
    found = part_faults(f"POST /a HTTP/1.1\r\n{different}\r\n\r\nabc")
    assert found == {
        "/headers/Content-Length": "Content-Length stands twice, with different values"
    }
    assert part_faults("POST /a HTTP/1.1\r\nContent-Length: 3\r\n") == {
        "/headers/Content-Length": "3 bytes, but there are only 0"
    }


@pytest.mark.parametrize("method", ["GET", "head", "DELETE", "Options"])
def test_body_of_blanks(method):
    assert request(posted(" \t\r\n\r\n", method=method)).body == b""
    assert request(posted(" \r\n", 3, method=method)).body == b""
    assert request(posted(" x\r\n", method=method)).body == b" x\r\n"
    assert request(posted(" \r\n", method="PUT")).body == b" \r\n"


# --- Content-ID --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_part", "of_request", "expected"),
    [
        (None, None, ""),
        ("1", None, "1"),
        (None, "<a b>", "<a b>"),
        ("1", "2", "1"),
        ("", "2", "2"),
        ("<>", "2", "2"),
        ("", "", ""),
        ("<caf\xe9>", None, "<caf\xe9>"),
    ],
)
def test_content_id(of_part, of_request, expected):
    more = [] if of_part is None else [f"Content-ID: {of_part}"]
    line = "" if of_request is None else f"Content-Id: {of_request}\r\n"
    for dialect in (ODataMultipart(), HTTPMultipart()):
        batch = decode(body(part(f"GET /a HTTP/1.1\r\n{line}\r\n", *more)), dialect=dialect)
        assert [member.source for member in batch.members] == [expected]
        assert batch.members[0].request.headers == []


@pytest.mark.parametrize("text", ["a\rb", "a\x00", "\x7f", "a\tb"])
def test_content_id_with_a_control(text):
    line = f"Content-ID: {text}"
    assert list(part_faults(GET, line)) == ["/headers/Content-ID"]
    assert list(part_faults(f"GET /a HTTP/1.1\r\n{line}\r\n\r\n")) == ["/headers/Content-ID"]


def test_references():
    location = [("Location", "/v1/Employees(1)")]
    texts = [
        part("POST Employees HTTP/1.1\r\n\r\n{}", "Content-ID: <1>"),
        part("POST Employees HTTP/1.1\r\nContent-ID: caf\xc3\xa9\r\n\r\n{}"),
        change_set(part("PATCH $1/Name?x HTTP/1.1\r\n\r\n")),
        part("GET /$caf\xc3\xa9 HTTP/1.1\r\n\r\n"),
        part("GET $metadata HTTP/1.1\r\n\r\n"),
    ]
    members = decode(body(*texts)).members
    assert [[*member.depends_on] for member in members] == [[], [], [0], [1], []]
    for member in members[:2]:
        member.response = Response(201, "Created", location)
    assert members[2].bind().target == "/v1/Employees(1)/Name?x"
    assert members[3].bind().target == "/v1/Employees(1)"
    assert members[4].request.target == "/v1/$metadata"


def test_reference_to_itself_or_forward():
    own = part("GET $1 HTTP/1.1\r\n\r\n", "Content-ID: 1")
    forward = part("GET $2 HTTP/1.1\r\n\r\n")
    later = part(GET, "Content-ID: <2>")
    assert list(faults(body(own, forward, change_set(later)))) == ["/0/url", "/1/url"]


def test_no_reference_in_http_multipart():
    first = part("GET /a HTTP/1.1\r\n\r\n", "Content-ID: 1")
    second = part("GET /$1 HTTP/1.1\r\n\r\n")
    assert paths(body(first, second), dialect=HTTPMultipart()) == ["/a", "/$1"]
    assert list(part_faults("GET $1 HTTP/1.1\r\n\r\n", dialect=HTTPMultipart())) == ["/url"]


# --- Change sets -------------------------------------------------------------------------------


def test_change_sets():
    document = body(part(), change_set(part(), part()), change_set(part()), part())
    batch = decode(document)
    assert [member.group for member in batch.members] == [None, 1, 1, 2, None]
    assert batch.needs_transaction
    assert batch.size == len(document)
    assert not decode(body(part(), change_set(part()))).needs_transaction


def test_change_set_with_lone_line_feeds_and_a_longer_boundary():
    inner = body(part(posted("x")), part(posted("y", 1)), boundary="bc").decode()
    document = body(part(inner, kind='multipart/mixed; boundary="bc"')).replace(b"\r\n", b"\n")
    assert [member.request.body for member in decode(document).members] == [b"x", b"y"]


def test_change_set_that_ends_with_its_closing_delimiter():
    text = change_set(part()).removesuffix("\r\n")
    for end in ("", "\r\n", "\r\n\r\nepilogue"):
        assert len(decode(body(text + end)).members) == 1


def test_without_a_transaction():
    rules = Rules("/v1/$batch", Limits())
    several = body(part(), change_set(part(), part()))
    assert faults(several, rules=rules) == {
        "/1": "a group of several requests: this endpoint has none, "
        "its operator has set no transaction"
    }
    assert not decode(body(change_set(part())), rules=rules).needs_transaction


def test_faulty_change_sets():
    empty = part("--c--", kind="multipart/mixed; boundary=c")
    open_ended = part("--c\r\n" + part(), kind="multipart/mixed; boundary=c")
    nested = change_set(part(), change_set(part(), boundary="d"))
    same = change_set(part(), boundary="x").replace("boundary=x", "boundary=y")
    assert faults(body(empty, open_ended, nested, same, part(GET, kind="multipart/mixed"))) == {
        "/0": "there are no parts, at least 1",
        "/1": "it ends early: there is no closing delimiter",
        "/2/1/headers/Content-Type": "'multipart/mixed; boundary=d' is not application/http",
        "/3": "it ends early: there is no closing delimiter",
        "/4/headers/Content-Type": "the multipart type has no boundary",
    }


def test_change_set_with_the_boundary_of_the_batch():
    assert {*faults(body(change_set(part(), boundary="b")))} == {"/0"}


def test_faults_in_a_change_set():
    found = faults(body(part(), change_set(part(), part("GET //x\r\n\r\n"), part(GET, " x"))))
    assert list(found) == ["/1/2/headers", "/1/1/url"]


# --- Limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ([part()] * 4, 4),
        ([part()] * 200, 200),
        ([part(), change_set(part(), part(), part())], 4),
        ([change_set(part(), part()), change_set(part(), part())], 4),
        ([change_set(*[part()] * 200)], 200),
        ([part("GET", kind="x"), part(" "), part("", " "), part()], 4),
        ([part("GET", kind="x"), part(GET, " "), change_set("", "")], 4),
    ],
)
def test_too_many_requests(parts, count):
    rules = Rules("/batch", Limits(max_requests=3))
    with pytest.raises(TooLarge) as caught:
        decode(body(*parts), rules=rules)
    assert caught.value.detail.startswith(
        f"requests: {count} parts, at most 3 (Limits.max_requests)."
    )


def test_too_many_come_before_the_early_end():
    rules = Rules("/batch", Limits(max_requests=3))
    document = body(*[part()] * 5).removesuffix(b"--b--\r\n")
    with pytest.raises(TooLarge):
        decode(document, rules=rules)
    with pytest.raises(TooLarge):
        decode(body(change_set(*[part()] * 5)).replace(b"--c--", b""), rules=rules)


def test_as_many_as_there_may_be():
    rules = Rules("/batch", Limits(max_requests=3), can_roll_back=True)
    assert len(requests(part(), change_set(part(), part()), rules=rules)) == 3


# --- Work is linear ----------------------------------------------------------------------------

LIMITS = Limits(max_body_size=1 << 30, max_header_size=1 << 30, max_requests=1000)

HOSTILE = {
    "delimiters": lambda n: b"--b\n" * n,
    "nearly delimiters": lambda n: b"--bx\n" * n,
    "dashes": lambda n: b"--b" + b"-" * n,
    "blanks after a delimiter": lambda n: b"--b" + b" " * n + b"x\n",
    "blanks after delimiters": lambda n: (b"\n--b" + b" " * 1000 + b"x") * (n // 1000),
    "line feeds": lambda n: b"--b\n" + b"\n" * n,
    "blank lines": lambda n: body(part("\r\n" * n + GET)),
    "no line feeds": lambda n: body(part("\r" * n)),
    "returns": lambda n: body(part("GET / HTTP/1.1\n" + "\n\r" * n)),
    "header lines": lambda n: body(part("GET / HTTP/1.1\n" + "a:\n" * n)),
    "lines of a part": lambda n: body(part("GET /", *["a:"] * n)),
    "long header": lambda n: body(part("GET / HTTP/1.1\nAccept:" + " " * n + "\r")),
    "spaces in a url": lambda n: body(part("GET /" + " " * n + "x")),
    "versions": lambda n: body(part("GET /" + " HTTP/1.1" * n)),
    "long name": lambda n: body(part("GET / HTTP/1.1\n" + "a" * n + ":\n")),
    "length": lambda n: body(part(posted("x", "9" * n))),
    "line breaks beyond": lambda n: body(part(posted("\r\n" * n + "x", 0))),
    "nothing but blanks": lambda n: body(part(posted(" " * n + "x", method="GET"))),
    "parameters": lambda n: body(part(kind="multipart/mixed" + ';a="' * n)),
    "blanks in parameters": lambda n: body(part(kind="multipart/mixed;" + " " * n + "x")),
    "backslashes": lambda n: body(part(kind='multipart/mixed;a="' + "\\" * n)),
    "quotes": lambda n: body(part(kind='multipart/mixed;a="' + '\\";b="' * n)),
    "open change sets": lambda n: body(
        *[part("\n--c" * (n // 100), kind="multipart/mixed;boundary=cc")] * 100
    ),
    "empty parts": lambda n: body(*[change_set(*[""] * (n // 100))] * 100),
    "content id": lambda n: body(part(GET, "Content-ID:" + "<" * n)),
}


def seconds(document):
    """CPU seconds for a batch, the least of three."""
    taken = []
    rules = Rules("/batch", LIMITS, can_roll_back=True)
    for _ in range(3):
        started = process_time()
        with suppress(BatchError):
            decode(document, rules=rules)
        taken.append(process_time() - started)
    return min(taken)


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_batches_take_linear_time(make):
    small, large = seconds(make(20_000)), seconds(make(320_000))
    assert large < 0.1 + small * 80, "16 times the size"


@pytest.mark.parametrize(
    "boundary", ["a" * 70, "-" * 70, "a" * 69 + "b", "b" + "a" * 69, "ab" * 35]
)
@pytest.mark.parametrize("filler", ["a", "-", "\n--" + "a" * 69, "\n--" + "ab" * 34, "\n-"])
def test_hostile_boundaries_take_linear_time(boundary, filler, processor_time):
    asked = outer(f"multipart/mixed; boundary={boundary}")
    document = (filler * 2_000_000)[:2_000_000].encode()
    with processor_time(below=10):
        assert list(faults(document, asked)) == [""]


def test_a_large_body_is_copied_once():
    size = 16_000_000
    document = body(part(posted("x" * size, size)))
    tracemalloc.start()
    try:
        decode(document, rules=Rules("/batch", LIMITS))
        assert tracemalloc.get_traced_memory()[1] < 1.1 * size
    finally:
        tracemalloc.stop()


def test_memory_for_many_lines_and_parts():
    for name in ("delimiters", "header lines", "lines of a part"):
        document = HOSTILE[name](100_000)
        tracemalloc.start()
        try:
            with pytest.raises(BatchError):
                decode(document, rules=Rules("/batch", LIMITS))
            assert tracemalloc.get_traced_memory()[1] < 4 * len(document), name
        finally:
            tracemalloc.stop()


# --- Laws --------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    "--b\r\n|--b\n|--b--\r\n|--c\r\n|--c--\r\n|\r\n|\n|GET /a HTTP/1.1\r\n|POST $1 HTTP/1.1\r\n"
    "|Content-Type: application/http\r\n|Content-Type: multipart/mixed; boundary=c\r\n"
    "|Content-ID: 1\r\n|Content-Length: 2\r\n|: |x|ab|\x00|\xe9".split("|")
)


@given(st.lists(PIECES | st.binary(max_size=6).map(lambda some: some.decode("latin-1"))))
@example(["--b\r\n", "\r\n", "--b--\r\n"])
def test_any_bytes_are_a_batch_or_refused(pieces):
    document = "".join(pieces).encode("latin-1")
    for dialect in (ODataMultipart(), HTTPMultipart()):
        with suppress(BatchError):
            assert decode(document, dialect=dialect).members


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.sampled_from(["\r\n", "\n"]))
@example([b"a\r"], "\n")
@example([b"a\r", b"\n", b"\r\n"], "\r\n")
def test_bodies_are_read_as_they_were_written(bodies, line_break):
    head = "Content-Type: application/http\n\nPOST /a HTTP/1.1\nContent-Length: {}\n\n"
    document = b""
    if line_break == "\n":  # a CR before it is part of the line break
        bodies = [content.rstrip(b"\r") for content in bodies]
    for content in bodies:
        lines = f"--boundary\n{head.format(len(content))}".replace("\n", line_break)
        document += lines.encode() + content + line_break.encode()
    batch = decode(document + b"--boundary--", outer("multipart/mixed; boundary=boundary"))
    assert [member.request.body for member in batch.members] == bodies


# --- The options of a batch --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefer", "on_fail"),
    [("continue-on-error=false", OnFail.STOP), ("odata.continue-on-error", OnFail.IGNORE)],
)
def test_on_fail(prefer, on_fail):
    asked = outer(Prefer=prefer)
    assert decode(body(part()), asked).on_fail is on_fail
    assert decode(body(part()), asked, dialect=HTTPMultipart()).on_fail is OnFail.IGNORE


def test_status():
    assert ODataMultipart(202).writer(BATCH, outer()).status == "202 Accepted"
    assert ODataMultipart(status=200).writer(BATCH, outer()).status == "200 OK"
    assert HTTPMultipart().writer(BATCH, outer()).status == "200 OK"
    for status in (0, 201, 204, 302):
        with pytest.raises(ValueError, match="is not 200 or 202"):
            ODataMultipart(status)


def test_refusal():
    error = BatchError("Why.")
    assert ODataMultipart().refusal(error)["error"]["code"] == "400"
    assert HTTPMultipart().refusal(error) == {}


# --- The reply ---------------------------------------------------------------------------------


def test_headers_of_the_reply():
    writer = ODataMultipart().writer(BATCH, outer())
    ((name, value),) = writer.headers
    assert name == "Content-Type"
    assert re.fullmatch(r"multipart/mixed; boundary=batchresponse_[0-9a-f]{32}", value)
    assert ODataMultipart().writer(BATCH, outer()).headers != writer.headers
    assert not writer.streamed


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"OData_Version": "4.0"}, "4.0"),
        ({"OData_MaxVersion": "4.01"}, "4.01"),
        ({"OData_Version": "4.01"}, "4.01"),
    ],
)
def test_version_of_the_reply(headers, version):
    assert ODataMultipart().writer(BATCH, outer(**headers)).headers[1:] == [
        ("OData-Version", version)
    ]
    assert len(HTTPMultipart().writer(BATCH, outer(**headers)).headers) == 1


def member(index, response, source="", group=None):
    made = Member(index, Request("GET", "/"), source)
    made.group = group
    made.response = response
    return made


def entry(response):
    writer = MultipartWriter("200 OK")
    written = writer.entry(member(0, response))
    assert len(written) <= writer.longest(response)
    return written


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(200, "OK"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (Response(204, ""), b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        (Response(299, ""), b"HTTP/1.1 299 Unknown\r\nContent-Length: 0\r\n\r\n"),
        (Response(999, "Odd"), b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
        (
            Response(511, "", [("X", "caf\xe9"), ("x", "b")], b"a\r\nb"),
            b"HTTP/1.1 511 Network Authentication Required\r\nX: caf\xe9, b\r\n"
            b"Content-Length: 4\r\n\r\na\r\nb",
        ),
        (
            Response(200, "OK", [("content-length", "7"), ("ETag", ""), ("Set-Cookie", "a=b")]),
            b"HTTP/1.1 200 OK\r\nETag: \r\nContent-Length: 0\r\n\r\n",
        ),
        (
            Response(200, "OK", [("Content-Length", "2"), ("Content-Type", "a/b")], b"hi"),
            b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi",
        ),
    ],
)
def test_entry(response, expected):
    assert entry(response) == expected


@given(
    st.integers(100, 999),
    st.text("aé ", max_size=80),
    st.lists(st.tuples(st.sampled_from(["A", "a", "Content-Length", "X-Y"]), st.text("xé"))),
    st.binary(max_size=30),
)
def test_no_entry_is_longer_than_the_longest(status, reason, fields, content):
    assert entry(Response(status, reason, fields, content)).endswith(content)


def test_problem_documents():
    assert b"urn:problem-type:batchwsgi:stopped" in entry(Problem.STOPPED.response("x"))


def reply(members, writer=None):
    """The body of the reply, with short names for its random boundaries."""
    writer = writer or MultipartWriter("200 OK")
    for each in members:
        each.entry = writer.entry(each)
    written = b"".join(writer.parts(members)).decode("latin-1")
    assert not any(each.entry for each in members)
    boundary = writer.headers[0][1].partition("boundary=")[2]
    token = boundary.removeprefix("batchresponse_")
    return written.replace(boundary, "B").replace(f"changesetresponse_{token}", "C")


def said(text, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n"


def ok(text):
    return Response(200, "OK", (), text.encode())


HTTP = "Content-Type: application/http\r\n"


def test_reply():
    assert reply([member(0, ok("a"), "<1>"), member(1, ok("b"))]) == (
        f"--B\r\n{HTTP}Content-ID: <1>\r\n\r\n{said('a')}--B\r\n{HTTP}\r\n{said('b')}--B--\r\n"
    )


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("1", "response-1"),
        ("<a+1>", "<response-a+1>"),
        ("<a", "response-<a"),
        ("caf\xe9", "response-caf\xe9"),
    ],
)
def test_content_id_of_the_reply(sent, echoed):
    writer = HTTPMultipart().writer(BATCH, outer())
    assert f"{HTTP}Content-ID: {echoed}\r\n\r\n" in reply([member(0, ok("a"), sent)], writer)
    writer = ODataMultipart().writer(BATCH, outer())
    assert f"{HTTP}Content-ID: {sent}\r\n\r\n" in reply([member(0, ok("a"), sent)], writer)


def test_change_set_that_succeeded():
    members = [
        member(0, ok("a")),
        member(1, ok("b"), "1", group=7),
        member(2, ok("c"), group=7),
        member(3, ok("d"), group=8),
        member(4, ok("e")),
    ]
    head = "--B\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n"
    assert reply(members) == (
        f"--B\r\n{HTTP}\r\n{said('a')}"
        f"{head}--C\r\n{HTTP}Content-ID: 1\r\n\r\n{said('b')}--C\r\n{HTTP}\r\n{said('c')}--C--\r\n"
        f"{head}--C\r\n{HTTP}\r\n{said('d')}--C--\r\n"
        f"--B\r\n{HTTP}\r\n{said('e')}--B--\r\n"
    )


UNDONE = Problem.ROLLED_BACK.response("undone")
STOPPED = Problem.STOPPED.response("stopped")
LATE = Problem.DEADLINE.response("late")
BAD = Response(400, "Bad Request", (), b"bad")


@pytest.mark.parametrize(
    ("responses", "shown"),
    [
        ([UNDONE, BAD, STOPPED], 1),
        ([BAD], 0),
        ([STOPPED, STOPPED, LATE], 2),
        ([UNDONE, UNDONE], 0),
        ([STOPPED, STOPPED], 0),
        ([ok("a"), BAD, BAD], 1),
        ([UNDONE, Problem.APPLICATION_ERROR.response("x")], 1),
    ],
)
def test_change_set_that_failed(responses, shown):
    members = [member(i, each, f"<{i}>", group=0) for i, each in enumerate(responses)]
    expected = entry(responses[shown]).decode()
    assert reply(members) == f"--B\r\n{HTTP}\r\n{expected}\r\n--B--\r\n"


def test_pieces():
    writer = MultipartWriter("200 OK")
    members = [member(i, ok("x" * 10_000)) for i in range(30)]
    for each in members:
        each.entry = writer.entry(each)
    pieces = list(writer.parts(members))
    assert [*map(len, pieces)][:-1] == pytest.approx([70_000] * (len(pieces) - 1), rel=0.1)
    assert len(pieces) == 5
    assert b"".join(pieces).count(b"HTTP/1.1 200 OK") == 30


def test_reply_can_be_read_by_the_email_package():
    from email import message_from_bytes

    writer = MultipartWriter("200 OK")
    members = [member(0, ok("a\n\nb"), "<1>"), member(1, ok("c"), group=1), member(2, BAD, group=2)]
    for each in members:
        each.entry = writer.entry(each)
    head = f"Content-Type: {writer.headers[0][1]}\r\n\r\n".encode()
    message = message_from_bytes(head + b"".join(writer.parts(members)))
    first, second, third = message.get_payload()
    assert first["Content-ID"] == "<1>"
    assert first.get_payload() == said("a\n\nb").removesuffix("\r\n")
    assert second.get_payload()[0].get_payload() == said("c").removesuffix("\r\n")
    assert third.get_payload().endswith("\r\n\r\nbad")


# --- Through the middleware --------------------------------------------------------------------


def posted_batch(dialect, path, document, app=echo, headers=(), **options):
    wrapped = BatchMiddleware(app, path, dialects=(dialect,), **options)
    headers = {"Content-Type": "multipart/mixed; boundary=----=_Part_0", **dict(headers)}
    return ask(wrapped, environ("POST", path, document, headers))


def test_google_through_the_middleware():
    document = body(
        part("GET /farm/v1/animals/pony HTTP/1.1\r\nHost: x\r\n\r\n", "Content-ID: <item1:1>"),
        part("POST /farm/v1/animals\r\nContent-Type: text/plain\r\n\r\nhay", "Content-ID: 2"),
        boundary="----=_Part_0",
    )
    answer = posted_batch(HTTPMultipart(), "/batch/farm/v1", document)
    assert answer.status == 200
    text = answer.body.decode()
    assert re.findall("Content-ID: (.*)\r\n", text) == ["<response-item1:1>", "response-2"]
    assert re.findall('"PATH_INFO": "(.*?)"', text) == ["/farm/v1/animals/pony", "/farm/v1/animals"]
    assert '"body": "hay"' in text


def test_odata_through_the_middleware():
    undone = []

    @contextmanager
    def transaction():
        try:
            yield
        except BaseException:
            undone.append(True)
            raise

    def app(request, start_response):
        failed = "bad" in request["PATH_INFO"]
        start_response("400 Bad Request" if failed else "201 Created", [("Location", "/v1/E(1)")])
        return [request["PATH_INFO"].encode()]

    first = part("POST E HTTP/1.1\r\n\r\n{}", "Content-ID: 1")
    document = body(
        change_set(first, part("PATCH $1/Name HTTP/1.1\r\n\r\n{}", "Content-ID: 2")),
        change_set(part("POST E HTTP/1.1\r\n\r\n{}"), part("POST bad HTTP/1.1\r\n\r\n{}")),
        part("GET E HTTP/1.1\r\n\r\n"),
        boundary="----=_Part_0",
    )
    options = {"app": app, "transaction": transaction, "headers": {"OData-Version": "4.0"}}
    answer = posted_batch(ODataMultipart(202), "/v1/$batch", document, **options)
    assert (answer.status, answer.headers["OData-Version"]) == (202, "4.0")
    text = answer.body.decode()
    assert re.findall(r"HTTP/1.1 ([0-9]+)", text) == ["201", "201", "400", "201"]
    assert re.findall(r"\r\n\r\n(/\S+)", text) == ["/v1/E", "/v1/E(1)/Name", "/v1/bad", "/v1/E"]
    assert undone == [True]


def test_refusal_through_the_middleware():
    answer = posted_batch(ODataMultipart(), "/$batch", b"--b--")
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "400"
