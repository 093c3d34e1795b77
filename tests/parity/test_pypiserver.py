"""pypiserver: an index of Python packages, on a Bottle of its own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support import App
from . import Item, basic, same

WHEEL = "demo_pkg-1.0-py3-none-any.whl"
SEARCH = """\
<methodCall><methodName>search</methodName><params><param><value><string>demo</string></value></param></params>
</methodCall>"""
XML = {"Content-Type": "text/xml"}


def upload(name: str, content: bytes) -> Item:
    """What twine sends."""
    head = (
        '--limit\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n'
        f'--limit\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return {
        "method": "post",
        "uri": "/",
        "headers": {"Content-Type": "multipart/form-data; boundary=limit"},
        "body": head.encode() + content + b"\r\n--limit--\r\n",
    }


def action(**args: str) -> Item:
    return {
        "method": "post",
        "uri": "/",
        "args": {f":{n}" if n == "action" else n: v for n, v in args.items()},
    }


FUTURE = {"If-Modified-Since": "Sun, 09 Sep 2040 01:46:40 GMT"}
REQUESTS = [
    (200, {"uri": "/"}),
    (301, {"uri": "/simple"}),
    (200, {"uri": "/simple/"}),
    (301, {"uri": "/simple/Demo_Pkg/"}),
    (200, {"uri": "/simple/demo-pkg/"}),
    (303, {"uri": "/simple/nothing-here/"}),
    (200, {"uri": "/demo-pkg/json"}),
    (404, {"uri": "/favicon.ico"}),
    (200, {"uri": f"/packages/{WHEEL}"}),
    (200, {"method": "head", "uri": f"/packages/{WHEEL}"}),
    (304, {"uri": f"/packages/{WHEEL}", "headers": FUTURE}),
    (403, {"uri": f"/packages/{WHEEL}", "headers": basic("ada", "no")}),
    (401, {"uri": f"/packages/{WHEEL}", "headers": {"Authorization": "Bearer no"}}),
    (200, upload("other-2.0.tar.gz", bytes(range(256)) * 20)),
    (409, upload("other-2.0.tar.gz", b"again")),
    (400, upload("..bad", b"")),
    (400, action()),
    (400, action(action="what")),
    (404, action(action="remove_pkg", name="other", version="3")),
    (200, {"uri": "/simple/other/"}),
    (200, {"uri": "/packages/other-2.0.tar.gz"}),
    (200, {"uri": "/packages/"}),
    (200, {"method": "post", "uri": "/RPC2", "headers": XML, "body": SEARCH}),
    (400, {"method": "post", "uri": "/RPC2", "headers": XML, "body": "<"}),
    (200, action(action="remove_pkg", name="other", version="2.0")),
    (404, {"uri": "/packages/other-2.0.tar.gz"}),
    (405, {"method": "delete", "uri": "/packages/"}),
    (200, {"uri": "/health"}),
]


@pytest.fixture(scope="module")
def pypiserver():
    """The module; its Bottle is an old one, which imports cgi and adds a finder without find_spec.

    Python 3.11 warns of such a finder at each import from then on.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", "_ImportRedirect.find_spec", ImportWarning)
        import pypiserver

        sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return pypiserver


@pytest.fixture
def make_app(pypiserver, tmp_path: Path) -> Callable[[], App]:
    def made() -> App:
        (tmp_path / "other-2.0.tar.gz").unlink(missing_ok=True)
        return pypiserver.app(
            roots=[tmp_path],
            authenticate=["update", "download"],
            auther=lambda user, password: (user, password) == ("ada", "pw"),
        )

    (tmp_path / WHEEL).write_bytes(b"PK\x05\x06" + bytes(18))
    return made


def test_pypiserver(make_app, threads):
    same(make_app, REQUESTS, headers=basic("ada", "pw"), threads=threads)
