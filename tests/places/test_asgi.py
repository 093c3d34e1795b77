"""An ASGI application, by a2wsgi: FastAPI, and Starlette on which it stands."""

from __future__ import annotations

import asyncio
import http.client
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI, Form, Request, Response, UploadFile
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from batchwsgi import BatchMiddleware, Limits

from ..databases.serving import Server, gunicorn
from ..faults.record import until
from ..support import batch

RECIPE = "tests.places.recipe_asgi"
CONF = Path(__file__).with_name("recipe_asgi_gunicorn.py").read_text()
DOCUMENT = json.dumps({"requests": [{"uri": "/hello/Ada"}]})


@contextmanager
def made(app, **options) -> Iterator[BatchMiddleware]:
    """`app` with the endpoint; its loop runs in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield BatchMiddleware(ASGIMiddleware(app, loop=loop), **options)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def fastapi_app():
    @asynccontextmanager
    async def lifespan(app):
        app.state.started = True
        yield

    app = FastAPI(lifespan=lifespan)
    meeting = asyncio.Barrier(4)

    @app.get("/meet/{n}")
    async def meet(n: int, request: Request):
        await asyncio.wait_for(meeting.wait(), 10)
        return [n, request.client.host, request.headers["host"]]

    @app.post("/form")
    async def form(name: str = Form()):
        return name

    @app.post("/upload")
    async def upload(file: UploadFile):
        return [file.filename, (await file.read()).hex()]

    @app.post("/json")
    def of_json(body: dict[str, int]):  # in a thread of Starlette's
        return body

    @app.post("/login")
    async def login(response: Response):
        response.set_cookie("user", "ada", httponly=True)

    @app.get("/me")
    async def me(request: Request):
        return request.cookies

    @app.get("/stream")
    async def stream():
        return StreamingResponse(pieces(), media_type="text/plain")

    @app.get("/forever")
    async def forever():
        return StreamingResponse(endless(), media_type="text/event-stream")

    @app.get("/fail")
    async def fail():
        raise RuntimeError

    @app.get("/started")
    async def started(request: Request):
        return hasattr(request.app.state, "started")

    return app


async def pieces():
    for n in range(3):
        yield f"{n}\n"
        await asyncio.sleep(0)


async def endless():
    while True:
        yield "data: x\n\n"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def app():
    with made(fastapi_app(), threads=4) as app:
        yield app


def bodies(reply):
    return [entry["body"] for entry in reply.entries]


def test_the_recipe():
    from . import recipe_asgi

    app = recipe_asgi.application
    assert bodies(batch(app, "/hello/Ada", "/hello/Bob")) == [{"hello": "Ada"}, {"hello": "Bob"}]
    loop = app.app.loop
    loop.call_soon_threadsafe(loop.stop)
    until(lambda: not loop.is_running())
    loop.close()


def test_members_side_by_side(app):
    reply = batch(app, *[f"/meet/{n}" for n in range(4)], REMOTE_PORT="4711")
    assert bodies(reply) == [[n, "192.0.2.7", "localhost"] for n in range(4)]


def test_forms_json_cookies_streams(app):
    def post(uri, **item):
        return {"method": "post", "uri": uri, **item}

    reply = batch(
        app,
        post("/form", args={"name": "Größe"}),
        post("/json", body={"n": 1}),
        post("/json", body={"n": "x"}),
        post("/login"),
        "/me",
        "/stream",
        "/fail",
        "/nothing",
    )
    assert [entry["status_code"] for entry in reply.entries] == (
        "200 200 422 200 200 200 500 404".split()
    )
    assert bodies(reply)[:2] == ["Größe", {"n": 1}]
    assert bodies(reply)[4:6] == [{"user": "ada"}, "0\n1\n2\n"]
    assert reply.headers["Set-Cookie"] == "user=ada; HttpOnly; Path=/; SameSite=lax"


def test_an_upload(app):
    part = b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n\x00\xff'
    item = {
        "method": "post",
        "uri": "/upload",
        "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        "body": b64encode(b"--b\r\n" + part + b"\r\n--b--\r\n").decode(),
    }
    assert bodies(batch(app, item)) == [["a.bin", "00ff"]]


def test_the_reply_as_a_stream(app):
    reply = batch(app, "/me", "/stream", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["index"] for line in reply.body.splitlines()] == [0, 1]


def test_starlette():
    async def echo(request: StarletteRequest):
        return JSONResponse([request.url.path, (await request.body()).decode()])

    with made(Starlette(routes=[Route("/{path:path}", echo, methods=["PUT"])])) as app:
        item = {"method": "put", "uri": "/a%20b", "body": {"n": 1}}
        assert bodies(batch(app, item)) == [["/a b", '{"n":1}']]


def test_lifespan_does_not_run_by_itself(app):
    assert bodies(batch(app, "/started")) == [False]


def test_an_endless_stream_is_ended_but_its_task_stays():
    """As it does where a client goes away: a2wsgi tells it nothing more."""
    with made(fastapi_app(), limits=Limits(deadline=0.2)) as app:
        (entry,) = batch(app, "/forever").entries
        assert entry["body"]["type"] == "urn:problem-type:batchwsgi:timeout"
        assert len(asyncio.all_tasks(app.app.loop)) == 1


# --- After the fork ----------------------------------------------------------------------------


def ask(server: Server, timeout: float) -> bytes:
    """The body of the reply to a batch; `TimeoutError` where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request("POST", "/batch", DOCUMENT, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("app", "options", "conf"),
    [
        (f"{RECIPE}:application", (), ""),
        (f"{RECIPE}:app", (), CONF),
        (f"{RECIPE}:app", ("--preload",), CONF),
    ],
    ids=["in the worker", "post_worker_init", "preloaded, post_worker_init"],
)
def test_made_after_the_fork(app, options, conf):
    with gunicorn(app, *options, conf=conf) as server:
        assert b'{"hello":"Ada"}' in ask(server, 30)


def test_made_before_the_fork_nothing_answers():
    """Its loop's thread is in gunicorn's first process, and not in the worker."""
    conf = "def post_worker_init(worker):\n    print('ready', flush=True)\n"
    options = ("--preload", "--graceful-timeout=1")
    with gunicorn(f"{RECIPE}:application", *options, conf=conf) as server:
        until(lambda: "ready" in server.log.read_text())
        with pytest.raises(TimeoutError):
            ask(server, 1.5)
