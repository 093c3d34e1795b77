"""The two files for browsers: `batch.js`, a `fetch` that batches, and the console's page.

`Pages` serves them where the operator asks for them. What they do stands in the files themselves;
the middleware asks one question and knows no more about them.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.http import parse_etags

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_PATH = 'const PATH = "/batch";'
"""The line of `batch.js` that the endpoint's own path is written into: the module cannot tell it
from the mount."""
_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


class Example(NamedTuple):
    """What the console's fields have at first, which is sent to try the endpoint."""

    batch: str = '{"requests": [\n  {"uri": "/"}\n]}'
    headers: str = ""
    """Of the batch as a whole, one a line."""


class Page(NamedTuple):
    """An answer: status line, headers and body."""

    status: str
    headers: list[tuple[str, str]]
    body: list[bytes]


class Pages:
    """What is served for browsers: at `{path}.js` the client, at `path` the console.

    `path` is the endpoint's own, decoded.
    """

    def __init__(
        self,
        path: str,
        console: bool,
        example: Example = Example(),  # noqa: B008 # immutable
    ) -> None:
        script = _File("text/javascript", _client(path))
        self._files = {_path_info(f"{path}.js"): script}
        if console:
            page = _console(example)
            policy = ("Content-Security-Policy", _policy(page))
            self._files[_path_info(path)] = _File("text/html", page, policy)

    def answer(self, environ: WSGIEnvironment) -> Page | None:
        """The answer to a request for one of the files; None for any other."""
        file = self._files.get(environ.get("PATH_INFO", ""))
        method = environ["REQUEST_METHOD"]
        if file is None or method not in ("GET", "HEAD"):
            return None
        known = parse_etags(environ.get("HTTP_IF_NONE_MATCH"))
        if known.contains_weak(file.etag):
            return Page("304 Not Modified", [*file.headers], [])
        length = [("Content-Length", str(len(file.content)))]
        body = [] if method == "HEAD" else [file.content]
        return Page("200 OK", [*file.types, *length, *file.headers], body)


class _File:
    """One file as it is served."""

    def __init__(self, media_type: str, text: str, *more: tuple[str, str]) -> None:
        self.content = text.encode()
        self.etag = sha256(self.content).hexdigest()[:32]
        self.types = [("Content-Type", f"{media_type}; charset=utf-8")]
        self.headers = [
            ("ETag", f'"{self.etag}"'),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            *more,
        ]


def _path_info(path: str) -> str:
    return path.encode().decode("latin-1")  # as PEP 3333 has it


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _client(path: str) -> str:
    """The module, which knows the endpoint's own path."""
    return _read("batch.js").replace(_PATH, f"const PATH = {json.dumps(path)};")


def _console(example: Example) -> str:
    """The page, with the example in its fields."""
    page = _read("console.html")
    for name, text in example._asdict().items():
        before, field, after = re.split(rf'(<textarea id="{name}"[^>]*>)[^<]*', page)
        page = before + field + escape(text) + after
    return page


def _policy(page: str) -> str:
    """A Content-Security-Policy by which nothing runs but the page's own script and style."""
    script = " ".join(map(_hash, _SCRIPT.findall(page)))
    style = " ".join(map(_hash, _STYLE.findall(page)))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "img-src data: blob:; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
