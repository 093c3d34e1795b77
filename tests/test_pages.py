"""The files for browsers, as they are served; what they do is tried in `tests/browser`."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape

import pytest

from batchwsgi import BatchMiddleware
from batchwsgi.browser import Example
from batchwsgi.dialects import Native, ODataMultipart

from .support import ask, batch, echo, environ

SCRIPT, PAGE = "/batch.js", "/batch"


def app(*args, **options):
    return BatchMiddleware(echo, *args, **options)


@pytest.mark.parametrize(
    ("path", "content_type"), [(SCRIPT, "text/javascript"), (PAGE, "text/html")]
)
def test_a_file(path, content_type):
    served = app(console=True)
    reply = ask(served, environ(path=path))
    assert reply.status == 200
    assert reply.headers["Content-Type"] == f"{content_type}; charset=utf-8"
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    head = ask(served, environ("HEAD", path))
    assert (head.status, head.body) == (200, b"")
    assert head.headers == reply.headers
    etag = reply.headers["ETag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        again = ask(served, environ(path=path, headers={"If-None-Match": known}))
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag
    assert ask(served, environ(path=path, headers={"If-None-Match": '"x"'})).status == 200


def test_the_module_knows_its_path():
    path = '/büro/"batch"'
    reply = ask(app(path, client=True), environ(path=f"{path}.js".encode().decode("latin-1")))
    assert 'const PATH = "/b\\u00fcro/\\"batch\\"";' in reply.body.decode()
    other = ask(app(client=True), environ(path=SCRIPT))
    assert reply.headers["ETag"] != other.headers["ETag"]


def test_the_policy_of_the_console():
    reply = ask(app(console=True), environ(path=PAGE))
    policy = reply.headers["Content-Security-Policy"]
    page = reply.body.decode()
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}[^>]*>(.*?)</{name}>", page, re.DOTALL)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("connect-src 'self'; img-src data: blob:; frame-ancestors 'none'")


def test_the_example_of_the_console():
    class Demo(BatchMiddleware):
        example = Example('["/<a>&\\1"]', "X: </textarea>")

    page = ask(Demo(echo, console=True), environ(path=PAGE)).body.decode()
    fields = re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert [unescape(text) for text in fields[:2]] == [*Demo.example]
    assert not {"<", ">"}.intersection("".join(fields))


def test_what_is_not_asked_for_is_not_served():
    assert ask(app(), environ(path=SCRIPT)).json()["PATH_INFO"] == SCRIPT
    assert ask(app(), environ(path=PAGE)).status == 405
    assert ask(app(client=True), environ(path=PAGE)).status == 405
    client = app(client=True)
    for method in ("POST", "PUT", "OPTIONS"):
        assert ask(client, environ(method, SCRIPT)).json()["PATH_INFO"] == SCRIPT
    assert ask(client, environ(path="/batch.js/")).json()["PATH_INFO"] == "/batch.js/"
    assert "Server-Timing" not in batch(client, "/").headers


def test_other_requests_to_the_console():
    console = app(console=True)
    refused = ask(console, environ("PUT", PAGE))
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert ask(app(), environ("PUT", PAGE)).headers["Allow"] == "OPTIONS, POST"
    assert "Server-Timing" in batch(console, "/").headers


@pytest.mark.parametrize("option", ["client", "console"])
def test_they_need_the_native_dialect(option):
    with pytest.raises(ValueError, match="they speak the native dialect"):
        app(dialects=(ODataMultipart(),), **{option: True})
    assert app(dialects=(ODataMultipart(), Native()), **{option: True})
    with pytest.raises(TypeError, match=f"{option}: 1 is not a bool"):
        app(**{option: 1})
