"""Golden requests and replies: each file of `golden/` is read, and written, byte for byte.

A file reads as HTTP. Its parts begin with a line `=== NAME`:

    === batch              the batch as a client posts it, or `OPTIONS` of the endpoint
    === request            a member as the application gets it, one part for each that is sent
    === response           what the application answers to it
    === reply              the reply to the batch

Header lines end at the first blank line. In a body that is JSON or lines of it, line breaks before
an indent are there for the reader alone; in a `multipart` body each is CR LF.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from batchwsgi import BatchMiddleware
from batchwsgi.dialects import HTTPMultipart, Native, ODataJSON, ODataMultipart

from .support import ask, environ

GOLDEN = Path(__file__).with_name("golden")
DIALECTS = {
    "native": Native(),
    "odata_json": ODataJSON(),
    "odata_multipart": ODataMultipart(),
    "http_multipart": HTTPMultipart(),
}
CASES = {str(path.relative_to(GOLDEN).with_suffix("")): path for path in GOLDEN.rglob("*.http")}


class Message(NamedTuple):
    start: str
    fields: list[tuple[str, str]]
    body: bytes


def message(text: str) -> Message:
    head, _, body = text.partition("\n\n")
    head = head.removesuffix("\n")
    start, *lines = head.split("\n")
    fields = [tuple(line.split(": ", 1)) for line in lines]
    if "multipart/" in head:
        body = body.replace("\n", "\r\n")
    elif "json" in head:
        body = re.sub(r"\n +", "", body)
    return Message(start, fields, body.encode())


def parts(text: str) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {"batch": [], "request": [], "response": [], "reply": []}
    _, *pieces = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)
    for name, piece in zip(pieces[::2], pieces[1::2], strict=True):
        found[name].append(message(piece.removesuffix("\n")))
    return found


@pytest.mark.parametrize("name", CASES)
def test_golden(name, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "GOLDEN")  # a boundary is random
    found = parts(CASES[name].read_text())
    [posted], [expected] = found["batch"], found["reply"]
    answers = iter(zip(found["request"], found["response"], strict=True))

    def app(request, start_response):
        wanted, answer = next(answers)
        query = f"?{request['QUERY_STRING']}" if request["QUERY_STRING"] else ""
        target = request["PATH_INFO"].encode("latin-1").decode() + query
        assert (request.get("CONTENT_LENGTH") or "0") == str(len(wanted.body))
        assert f"{request['REQUEST_METHOD']} {target}" == wanted.start
        assert request["wsgi.input"].read() == wanted.body
        own = {"HTTP_HOST", "HTTP_ACCEPT", "HTTP_ODATA_MAXVERSION"}  # the outer request's
        seen = {key: value for key, value in request.items() if key.startswith("HTTP_")}
        named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in wanted.fields}
        content_type = named.pop("HTTP_CONTENT_TYPE", None)
        assert {key: value for key, value in seen.items() if key not in own - named.keys()} == named
        assert request.get("CONTENT_TYPE") == content_type
        start_response(answer.start.removeprefix("HTTP/1.1 "), [*answer.fields])
        return [answer.body]

    method, path = posted.start.split(" ")
    options = {"dialects": (DIALECTS[name.partition("/")[0]],), "transaction": nullcontext}
    wrapped = BatchMiddleware(app, path, **(options if "native" not in name else {}))
    reply = ask(wrapped, environ(method, path, posted.body, dict(posted.fields)))
    assert list(answers) == []
    assert expected.start.startswith(f"HTTP/1.1 {reply.status} ")
    assert reply.body == expected.body
    for field, value in expected.fields:
        assert value in reply.headers.getlist(field)


def test_the_cases_are_found():
    assert len(CASES) >= 6
