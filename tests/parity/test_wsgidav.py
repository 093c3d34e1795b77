"""WsgiDAV: files over WebDAV, with a stack of WSGI middleware."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support import App
from . import basic, same

XML = {"Content-Type": "application/xml; charset=utf-8"}
PNG = {"Content-Type": "image/png"}
HELLO = "/hello%20w%C3%B6rld.txt"
PROPERTIES = """\
<propfind xmlns="DAV:"><prop><displayname/><getcontentlength/><resourcetype/></prop></propfind>"""
LOCK = """\
<lockinfo xmlns="DAV:">
  <lockscope><exclusive/></lockscope><locktype><write/></locktype><owner>ada</owner>
</lockinfo>"""

REQUESTS = [
    (200, {"uri": "/"}),
    (200, {"method": "options", "uri": "/"}),
    (200, {"uri": "/hello wörld.txt"}),
    (200, {"method": "head", "uri": HELLO}),
    (206, {"uri": HELLO, "headers": {"Range": "bytes=2-7"}}),
    (416, {"uri": HELLO, "headers": {"Range": "bytes=9999-"}}),
    (304, {"uri": HELLO, "headers": {"If-Modified-Since": "Sun, 09 Sep 2040 01:46:40 GMT"}}),
    (412, {"uri": HELLO, "headers": {"If-Match": '"another"'}}),
    (401, {"uri": HELLO, "headers": basic("ada", "no")}),
    (404, {"uri": "/none.txt"}),
    (201, {"method": "put", "uri": "/docs/p q.png", "headers": PNG, "body": bytes(range(256)) * 8}),
    (204, {"method": "put", "uri": "/docs/p q.png", "headers": PNG, "body": b""}),
    (201, {"method": "put", "uri": "/docs/text", "body": b"text"}),
    (200, {"uri": "/docs/text"}),
    (
        207,
        {"method": "propfind", "uri": "/", "headers": XML | {"Depth": "1"}, "body": PROPERTIES},
    ),
    (207, {"method": "propfind", "uri": "/docs/", "headers": {"Depth": "1"}}),
    (201, {"method": "mkcol", "uri": "/new"}),
    (405, {"method": "mkcol", "uri": "/new"}),
    (
        201,
        {
            "method": "copy",
            "uri": HELLO,
            "headers": {"Destination": "http://localhost/new/copy.txt"},
        },
    ),
    (
        412,
        {
            "method": "move",
            "uri": "/docs/text",
            "headers": {"Destination": "/new/copy.txt", "Overwrite": "F"},
        },
    ),
    (200, {"method": "lock", "uri": HELLO, "headers": XML, "body": LOCK}),
    (423, {"method": "put", "uri": HELLO, "body": b"locked"}),
    (405, {"method": "post", "uri": HELLO}),
    (405, {"method": "put", "uri": "/docs/", "body": b"x"}),
    (204, {"method": "delete", "uri": "/new"}),
    (404, {"method": "delete", "uri": "/new"}),
    (301, {"uri": "/docs"}),
]


@pytest.fixture
def make_app(tmp_path: Path) -> Callable[[], App]:
    from wsgidav.wsgidav_app import WsgiDAVApp

    share = tmp_path / "share"
    hello = share / "hello wörld.txt"

    def made() -> App:
        shutil.rmtree(share, ignore_errors=True)
        (share / "docs").mkdir(parents=True)
        hello.write_text("hello Grüße\n" * 20)
        os.utime(hello, (10**9, 10**9))
        return WsgiDAVApp(
            {
                "provider_mapping": {"/": str(share)},
                "simple_dc": {"user_mapping": {"*": {"ada": {"password": "pw"}}}},
                "http_authenticator": {"accept_digest": False, "default_to_digest": False},
                "logging": {"enable": False},
            }
        )

    return made


def without_times(body: bytes) -> bytes:
    body = re.sub(rb"\d{4}-\d\d-\d\d[T ][\d:.]+Z?", b"<time>", body)
    body = re.sub(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", b"<date>", body)
    body = re.sub(rb'(?<=getetag>)[^<]+|"[0-9]+-[0-9]+-[0-9]+"', b"<etag>", body)
    body = re.sub(rb"(?<=-bytes>)[0-9]+", b"<disk>", body)
    body = re.sub(rb"Second-[0-9]+", b"<timeout>", body)
    return re.sub(rb"opaquelocktoken:\w+", b"<token>", body)


def test_wsgidav(make_app, threads):
    same(
        make_app,
        REQUESTS,
        headers=basic("ada", "pw"),
        threads=threads,
        ignore_headers=["Date", "Last-Modified", "ETag", "Lock-Token"],
        normalize=without_times,
        member_headers=["Depth", "Destination", "Overwrite"],
    )
