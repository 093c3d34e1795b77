"""One tight file with the checks that the package makes of a plain batch, and nothing else.

It is what the same work costs in pure Python when nobody has to read it: no dialects, references,
groups, threads, streams or problem documents, everything in one function. A batch with any of those
is refused. The package is measured against it in one run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from io import BytesIO
from time import monotonic
from typing import Any
from urllib.parse import unquote

from batchwsgi import Limits, Request
from batchwsgi.dialects import embedding
from batchwsgi.dialects.media import media_type
from batchwsgi.dialects.strict_json import loads

_PLAIN_TARGET = re.compile(
    r"/(?!/)[A-Za-z0-9_~!$&'()*+,;=:@|\[\]/.-]*+"
    r"(?:\?(?:[A-Za-z0-9_~!$&'()*+,;=:@|\[\]/?.^`{}-]++|%[0-9A-Fa-f]{2})*+)?"
).fullmatch
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_STATUS = re.compile(r"([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)").fullmatch
_METHODS = {name: name.upper() for name in "get head options post put patch delete".split()}
_INHERITED = frozenset(
    "SCRIPT_NAME SERVER_NAME SERVER_PORT SERVER_PROTOCOL SERVER_SOFTWARE REMOTE_ADDR".split()
)
_HIDDEN = frozenset(
    "connection keep-alive te trailer transfer-encoding upgrade set-cookie "
    "x-accel-redirect x-sendfile".split()
)


class Tight:
    """A batch endpoint for plain batches."""

    def __init__(self, app: Callable[..., Iterable[bytes]], limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.shapes: dict[tuple[str, ...], bool] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        limits = self.limits
        deadline = monotonic() + limits.deadline
        length = int(environ["CONTENT_LENGTH"])
        assert environ["REQUEST_METHOD"] == "POST" and length <= limits.max_body_size
        assert environ["CONTENT_TYPE"] == "application/json"
        document = loads(environ["wsgi.input"].read(length), limits)
        assert document.keys() == {"requests"}
        assert 1 <= len(document["requests"]) <= limits.max_requests
        members = [self._checked(item) for item in document["requests"]]
        template = {
            key: value
            for key, value in environ.items()
            if key in _INHERITED or key.startswith(("HTTP_", "wsgi."))
        }
        template["wsgi.input_terminated"] = True
        raw_targets = [key for key in ("RAW_URI", "REQUEST_URI") if key in environ]
        context = copy_context()
        left = limits.max_reply_size
        entries = []
        for method, uri in members:
            assert monotonic() < deadline
            child = template.copy()
            path, _, query = uri.partition("?")
            child["REQUEST_METHOD"] = method
            child["PATH_INFO"] = unquote(path, "latin-1") if "%" in path else path
            child["QUERY_STRING"] = query
            for key in raw_targets:
                child[key] = uri
            child["wsgi.input"] = BytesIO()
            child["batchwsgi.request"] = Request(method, uri)
            if method in ("POST", "PUT", "PATCH"):
                child["CONTENT_LENGTH"] = "0"
            try:
                entry = context.copy().run(self._entry, child, method, uri, deadline)
            except Exception:
                entry = b'{"status_code":"500"}'
            left -= len(entry)
            assert left >= 0 and len(entry) <= limits.max_member_size
            entries.append(entry)
        reply = b'{"responses":[' + b",".join(entries) + b"]}"
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(reply)))]
        start_response("200 OK", fields)
        return [reply]

    def _checked(self, item: Any) -> tuple[str, str]:
        """Method and target of an item."""
        assert isinstance(item, dict) and item.keys() <= {"method", "uri"}
        method = _METHODS[item.get("method", "get")]
        uri = item["uri"]
        assert isinstance(uri, str) and len(uri) <= self.limits.max_uri_length
        assert "/." not in uri and _PLAIN_TARGET(uri) and uri.partition("?")[0] != "/batch"
        return method, uri

    def _entry(self, environ: dict[str, Any], method: str, uri: str, deadline: float) -> bytes:
        started: list[Any] = []
        chunks: list[bytes] = []
        left = self.limits.max_member_size

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            assert exc_info is None and not started and isinstance(headers, list)
            started.extend((_STATUS(status), headers))
            return chunks.append

        iterable = self.app(environ, start_response)
        try:
            begun = False
            for chunk in iterable:
                assert isinstance(chunk, bytes) and started
                left -= len(chunk) or 1
                assert left >= 0 and not (begun and monotonic() >= deadline)
                begun = True
                chunks.append(chunk)
        finally:
            close = getattr(iterable, "close", None)
            if close:
                close()
        body = b"".join(chunks)
        matched, headers = started
        if method == "HEAD" or matched[1] in ("204", "304"):
            body = b""
        names = tuple(name for name, _ in headers)
        if names not in self.shapes:
            self.shapes[names] = all(map(_TOKEN, names)) and _HIDDEN.isdisjoint(
                name.lower() for name in names
            )
        values = "".join([value for _, value in headers])
        assert self.shapes[names] and values.isascii() and values.isprintable()
        content_type = ""
        for field in headers:
            assert type(field) is tuple and type(field[0]) is str
            name, value = field
            if name == "Content-Length" and value != str(len(body)):
                body = body[: int(value)]
            elif name == "Content-Type":
                content_type = value
        assert media_type(content_type).is_json and embedding._is_json(body)
        lines = ",".join([f'"{name}":{embedding.json_string(value)}' for name, value in headers])
        return (
            (
                f'{{"method":"{method.lower()}","uri":{embedding.json_string(uri)},'
                f'"status_code":"{matched[1]}","headers":{{{lines}}},"body":'
            ).encode()
            + body
            + b"}"
        )


def tight(app: Callable[..., Iterable[bytes]], limits: Limits, is_json: Any) -> Callable[..., Any]:
    """`app` with the endpoint of this file, which checks JSON as `is_json` does."""
    wrapped = Tight(app, limits)

    def checking(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        embedding._is_json = is_json
        return wrapped(environ, start_response)

    return checking


is_json_ways = {
    "a tight single file": embedding.is_json,
    "a tight single file with msgspec": embedding.is_json_by_msgspec,
}
VARIANTS = {name: partial(tight, is_json=check) for name, check in is_json_ways.items()}
