"""Nothing stays behind: files, threads, database connections and memory after many batches."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from werkzeug.exceptions import Forbidden

from batchwsgi import BatchMiddleware, Limits, subrequest

from .. import misbehaving
from ..frameworks import django_app
from ..servers import client
from ..servers.harness import start
from ..support import App, Environ, ask, batch, environ, post
from .record import Record, until

BATCHES = 10_000
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="/proc tells what a process has open: Linux alone"
)


# --- What a process holds ---------------------------------------------------------------------


class Held(NamedTuple):
    """What a process holds at one time."""

    files: int
    threads: int
    resident: int
    """Memory in bytes, as the kernel counts it."""

    @classmethod
    def by(cls, pid: int | str) -> Held:
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        return cls(
            len(opened(pid)), len(os.listdir(process / "task")), pages * os.sysconf("SC_PAGE_SIZE")
        )


def opened(pid: int | str) -> list[str]:
    """The files and sockets that a process has open."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one with which this folder is read
            links.append(os.readlink(link))
    return links


def after(batches: Iterator[Any], count: int) -> tuple[Held, int]:
    """What this process holds after so many batches: from outside, and in blocks of Python's."""
    for _ in range(count):
        next(batches)
    gc.collect()
    return Held.by("self"), sys.getallocatedblocks()


def check_that_nothing_grows(batches: Iterator[Any], warm_up: int, count: int) -> None:
    """Run `warm_up` of `batches` and then `count`; what is held is the same after both.

    The kernel's count of memory sees what is large, Python's count of blocks what is many: one
    object left behind by each batch is `count` blocks.
    """
    before, blocks_before = after(batches, warm_up)
    threads = threading.active_count()
    held, blocks = after(batches, count)
    assert held.files == before.files
    assert threading.active_count() == threads
    assert held.threads == before.threads
    assert held.resident - before.resident < 5 * MEGABYTE
    assert blocks - blocks_before < count // 2


def dropped(record: logging.LogRecord) -> bool:
    return False


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Drop all log records once they are made: pytest keeps those of a test, which is a leak."""
    loggers = [logging.getLogger(name) for name in ("batchwsgi", "django.request")]
    for logger in loggers:
        logger.addFilter(dropped)
    yield
    for logger in loggers:
        logger.removeFilter(dropped)


def leaks_a_file(kept: list[Any]) -> None:
    kept.append(os.dup(0))


def leaks_a_thread(kept: list[Any]) -> None:
    if not kept:
        kept.append(threading.Event())
    kept.append(threading.Thread(target=kept[0].wait))
    kept[-1].start()


def leaks_much(kept: list[Any]) -> None:
    kept.append(os.urandom(100_000))


def leaks_little(kept: list[Any]) -> None:
    kept.append([object()])


@pytest.mark.parametrize("leak", [leaks_a_file, leaks_a_thread, leaks_much, leaks_little])
def test_a_leak_would_be_seen(leak: Callable[[list[Any]], None]) -> None:
    """One in each batch, and far fewer of these than the tests below send."""
    kept: list[Any] = []

    def leaky(environ: Environ, start_response: Any) -> list[bytes]:
        leak(kept)
        start_response("200 OK", [])
        return []

    app = BatchMiddleware(leaky)
    try:
        with pytest.raises(AssertionError):
            check_that_nothing_grows(iter(lambda: batch(app, "/"), None), 100, 100)
    finally:
        for one in kept:
            if isinstance(one, int):
                os.close(one)
            elif isinstance(one, threading.Event):
                one.set()
            elif isinstance(one, threading.Thread):
                one.join()


# --- In this process --------------------------------------------------------------------------

LIMITS = Limits(max_member_size=2_000, max_reply_size=4_000, max_body_size=2_000)

CASES = sorted(misbehaving.CASES.keys() - {"huge"})  # a reply of 50 MB is 0.1 s

REFUSED: list[bytes] = [
    b"",
    b"{",
    b"\xff",
    b"[" * 1_000,
    b'{"requests": []}',
    b'{"requests": [{"uri": "/good"}], "requests": []}',
    b'{"requests": [{"uri": "//host/"}, {"uri": "/good", "headers": {"Host": "x"}}]}',
    b'{"requests": [{"uri": "/good", "args": {"n": NaN}}]}',
    json.dumps({"requests": [{}] * 21}).encode(),
    b" " * 2_001,
]


def app(request: Environ, start_response: Any) -> Any:
    """The misbehaving application, with some more ways to behave."""
    path = request["PATH_INFO"]
    if path.startswith("/raise/"):
        raise misbehaving.RERAISED[int(path[7:])]
    if path == "/inner":
        reply = subrequest(misbehaving.app, request, "GET", "/good")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1; Path=/")])
        return [reply.body]
    return misbehaving.app(request, start_response)


def authorize(request: Environ) -> None:
    if request["PATH_INFO"] == "/refused":
        raise Forbidden
    if request["PATH_INFO"] == "/broken":
        raise LookupError


def mixed() -> Iterator[None]:
    """Batches without end: each kind comes again after a while, beside other kinds."""
    wrapped = BatchMiddleware(app, limits=LIMITS, authorize=authorize)
    late = BatchMiddleware(app, limits=Limits(deadline=0))
    kinds: list[Callable[[], Any]] = [
        lambda: [batch(wrapped, "/good", {"method": "post", "uri": "/good", "body": {"n": 1}})],
        lambda: [batch(wrapped, "/inner", "/refused", "/broken")],
        lambda: [batch(wrapped, *["/good"] * 20, headers={"Authorization": "Bearer x" * 30})],
        lambda: [post(wrapped, {"on-fail": "stop", "requests": [{"uri": "/broken"}] * 3})],
        lambda: [batch(late, "/good", "/good")],
        lambda: [batch(wrapped, "/batch", "/good")],
        lambda: [batch(wrapped, "/good", f"/raise/{n}") for n in range(4)],
        lambda: [ask(wrapped, environ("GET", "/batch"))],
        lambda: [ask(wrapped, environ("POST", "/batch", b"<a/>", {"Content-Type": "text/xml"}))],
        lambda: [post(wrapped, b'{"requests"', CONTENT_LENGTH="100")],
        lambda: [post(wrapped, b"{}", CONTENT_LENGTH="")],
        lambda: [unread(wrapped)],
    ]
    kinds += [lambda body=body: post(wrapped, body) for body in REFUSED]
    kinds += [lambda case=case: batch(wrapped, "/good", f"/{case}", "/good") for case in CASES]
    while True:
        for kind in kinds:
            with suppress(*misbehaving.RERAISED):
                kind()
            misbehaving.BODIES.clear()
            yield


def unread(app: App) -> None:
    """A server whose client has gone: it closes the reply without a look at it."""
    body = b'{"requests": [{"uri": "/good"}, {"uri": "/good"}]}'
    request = environ("POST", "/batch", body, {"Content-Type": "application/json"})
    reply = app(request, lambda status, headers, exc_info=None: lambda chunk: None)
    getattr(reply, "close", lambda: None)()


def test_ten_thousand_batches_leave_nothing_behind() -> None:
    check_that_nothing_grows(mixed(), BATCHES // 10, BATCHES)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A SQLite file as Django's database, to count who has it open."""
    from django.contrib.sessions.models import Session
    from django.db import connection

    connection.close()
    memory = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = path = str(tmp_path / "database")
    with connection.schema_editor() as editor:
        editor.create_model(Session)
    connection.close()
    yield path
    connection.close()
    connection.settings_dict["NAME"] = memory


def sessions(request: Any) -> Any:
    from django.contrib.sessions.models import Session
    from django.http import JsonResponse

    return JsonResponse({"sessions": Session.objects.count()})


def crash(request: Any) -> Any:
    raise LookupError(sessions(request))


class Urls:
    """What `ROOT_URLCONF` names can be any object with `urlpatterns`."""

    from django.urls import path

    urlpatterns = (path("sessions", sessions), path("crash", crash))


@pytest.mark.parametrize(("max_age", "connections"), [(0, 0), (None, 1)], ids=["0", "None"])
def test_batches_leave_django_no_connections(
    database: str, max_age: int | None, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connection
    from django.test import override_settings

    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", max_age)
    statuses: Counter[str] = Counter()

    def batches(app: App) -> Iterator[None]:
        while True:
            reply = batch(app, "/sessions", "/crash", "/nowhere")
            statuses.update(entry["status_code"] for entry in reply.entries)
            assert opened("self").count(database) == connections
            yield

    with override_settings(ROOT_URLCONF=Urls):
        app = BatchMiddleware(django_app.make_app())
        check_that_nothing_grows(batches(app), 600, 600)
    assert statuses == dict.fromkeys(("200", "500", "404"), 1200)


# --- Over a server ----------------------------------------------------------------------------


def test_batches_over_a_server_leave_nothing_in_its_worker(record: Record) -> None:
    """Good, failing and refused ones, on connections that are kept, ended, and cut off."""
    good = b'{"requests": [{"uri": "/run/a"}, {"uri": "/fail/b"}, {"uri": "/run/c"}]}'
    bad = b'{"requests": [{"uri": "//host/"}]}'
    with start("gunicorn_gthread", "tests.faults.apps:application", RECORD=str(record.path)) as at:

        def some() -> None:
            with client.Connection(at) as kept:
                for body, status in ((good, 200), (bad, 400), (good, 200)):
                    kept.send(client.head(at, *client.framed(body)), body)
                    reply = kept.reply()
                    assert reply is not None
                    assert reply.status == status
            with client.Connection(at) as cut_off:
                cut_off.send(client.head(at, *client.framed(good)), good[:20])
            with client.Connection(at) as unread:
                unread.send(client.head(at, *client.framed(good)), good)

        def many(count: int) -> None:
            with ThreadPoolExecutor(4) as pool:  # as many as the worker has: all are in use
                for each in [pool.submit(some) for _ in range(count)]:
                    each.result()
            until(lambda: not sockets(worker, at.port) & set(opened(worker)))

        worker = int(client.batch(at, "/run/first").entries[0]["body"]["pid"])
        many(20)
        before = Held.by(worker)
        many(80)
        held = Held.by(worker)
    assert held.files == before.files
    assert held.threads == before.threads
    assert held.resident - before.resident < 5 * MEGABYTE


@pytest.mark.parametrize(
    ("recipe", "last"), [("", "302"), ("authorize", "403")], ids=["none", "authorize"]
)
def test_django_over_a_server_has_one_connection_for_each_thread(
    site: str, recipe: str, last: str
) -> None:
    """Also where an `authorize` asks the database and Django then never sees the member."""
    application = "tests.faults.django_site:application"
    headers = {"Cookie": "sessionid=" + "x" * 32}
    with start("gunicorn_gthread", application, DATABASE=site, RECIPE=recipe) as at:

        def some(number: int) -> list[str]:
            entries = client.batch(at, "/whoami", "/crash", "/admin/", headers=headers).entries
            return [entry["status_code"] for entry in entries]

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(some, range(200)))
        assert statuses == [["200", "500", last]] * 200
        (worker,) = children(at.pid)
        assert 1 <= opened(worker).count(site) <= 4


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets(pid: int, port: int) -> set[str]:
    """The connections at that port, as the links to a process's open files name them."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    established = [f for f in fields if f[1].endswith(f":{port:04X}") and f[3] != "0A"]
    return {f"socket:[{field[9]}]" for field in established}
