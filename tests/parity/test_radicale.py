"""Radicale: calendars over CalDAV, in XML, with a framework of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support import App
from . import basic, same

XML = {"Content-Type": "application/xml; charset=utf-8"}
CALENDAR = {"Content-Type": "text/calendar; charset=utf-8"}
EVENT = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//tests//EN
BEGIN:VEVENT
UID:e1
DTSTAMP:20240101T000000Z
DTSTART:20240101T100000Z
DTEND:20240101T110000Z
SUMMARY:Grüße 三
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")

PROPERTIES = """\
<propfind xmlns="DAV:"><prop><displayname/><getetag/><resourcetype/></prop></propfind>"""
UPDATE = """\
<propertyupdate xmlns="DAV:">
  <set><prop><displayname>Ä</displayname></prop></set>
</propertyupdate>"""
QUERY = """\
<c:calendar-query xmlns="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav">
  <prop><getetag/><c:calendar-data/></prop>
  <c:filter><c:comp-filter name="VCALENDAR"/></c:filter>
</c:calendar-query>"""

REQUESTS = [
    (302, {"uri": "/"}),
    (302, {"uri": "/.web"}),
    (200, {"uri": "/.web/"}),
    (200, {"method": "head", "uri": "/.web/"}),
    (404, {"uri": "/ada/none.ics"}),
    (401, {"uri": "/ada/", "headers": basic("ada", "no")}),
    (403, {"uri": "/bob/"}),
    (405, {"method": "patch", "uri": "/ada/"}),
    (207, {"method": "propfind", "uri": "/ada/", "headers": {"Depth": "1"}}),
    (400, {"method": "propfind", "uri": "/ada/", "headers": XML, "body": "<propfind"}),
    (200, {"method": "options", "uri": "/"}),
    (201, {"method": "mkcalendar", "uri": "/ada/cal/"}),
    (409, {"method": "mkcalendar", "uri": "/ada/cal/"}),
    (201, {"method": "put", "uri": "/ada/cal/e1.ics", "headers": CALENDAR, "body": EVENT}),
    (
        412,
        {
            "method": "put",
            "uri": "/ada/cal/e1.ics",
            "headers": CALENDAR | {"If-None-Match": "*"},
            "body": EVENT.encode(),
        },
    ),
    (400, {"method": "put", "uri": "/ada/cal/e2.ics", "headers": CALENDAR, "body": "nonsense"}),
    (200, {"uri": "/ada/cal/e1.ics"}),
    (200, {"method": "head", "uri": "/ada/cal/e1.ics"}),
    (200, {"uri": "/ada/cal/"}),
    (
        207,
        {
            "method": "propfind",
            "uri": "/ada/cal/",
            "headers": XML | {"Depth": "1"},
            "body": PROPERTIES,
        },
    ),
    (207, {"method": "propfind", "uri": "/ada/cal/", "headers": {"Depth": "0"}}),
    (207, {"method": "proppatch", "uri": "/ada/cal/", "headers": XML, "body": UPDATE}),
    (
        207,
        {"method": "report", "uri": "/ada/cal/", "headers": XML | {"Depth": "1"}, "body": QUERY},
    ),
    (
        201,
        {
            "method": "move",
            "uri": "/ada/cal/e1.ics",
            "headers": {"Destination": "http://localhost/ada/cal/e2.ics"},
        },
    ),
    (404, {"uri": "/ada/cal/e1.ics"}),
    (200, {"method": "delete", "uri": "/ada/cal/e2.ics"}),
    (200, {"method": "delete", "uri": "/ada/cal/"}),
    (404, {"method": "delete", "uri": "/ada/cal/"}),
]


@pytest.fixture
def make_app(tmp_path: Path) -> Callable[[], App]:
    from radicale import Application, config
    from radicale.auth import BaseAuth

    class Auth(BaseAuth):
        """The users of the tests. Those in files need passlib, which WsgiDAV installs too."""

        def _login(self, login: str, password: str) -> str:
            return login if (login, password) == ("ada", "pw") else ""

    def made() -> App:
        shutil.rmtree(tmp_path / "collections", ignore_errors=True)
        configuration = config.load()
        changes = {
            "storage": {"filesystem_folder": str(tmp_path / "collections")},
            "auth": {"type": Auth, "delay": "0"},
        }
        configuration.update(changes, "the tests", privileged=True)
        return Application(configuration)

    return made


def without_tokens(body: bytes) -> bytes:
    body = re.sub(rb"(?<=/ns/sync/)[0-9a-f]+", b"<token>", body)
    return re.sub(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", b"<date>", body)


def test_radicale(make_app, threads):
    same(
        make_app,
        REQUESTS,
        headers=basic("ada", "pw"),
        threads=threads,
        normalize=without_tokens,
        member_headers=["Depth", "Destination"],
    )
