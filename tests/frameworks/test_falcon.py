"""What is particular to Falcon: middleware, hooks and error handlers."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from falcon import App, Request, Response

from batchwsgi import subrequest

from ..support import ask, batch, environ

happened: list[str] = []


class Watching:
    """Falcon's middleware methods, noted."""

    def process_request(self, request: Request, response: Response) -> None:
        happened.append(f"process_request {request.path}")
        if request.get_param("early"):
            response.status = falcon.HTTP_202
            response.text = "early"
            response.complete = True

    def process_resource(
        self, request: Request, response: Response, resource: object, params: dict[str, Any]
    ) -> None:
        happened.append(f"process_resource {params}")

    def process_response(
        self, request: Request, response: Response, resource: object, succeeded: bool
    ) -> None:
        happened.append(f"process_response {request.path} {succeeded}")
        response.set_header("X-Path", request.path)


def before(request: Request, response: Response, resource: object, params: dict[str, Any]) -> None:
    happened.append(f"before {sorted(vars(request.context))}")
    request.context.hooked = request.path


def after(request: Request, response: Response, resource: object) -> None:
    happened.append(f"after {request.context.hooked}")


class Hello:
    @falcon.before(before)
    @falcon.after(after)
    def on_get(self, request: Request, response: Response, name: str) -> None:
        response.media = {"hello": name, "hooked": request.context.hooked}


class Crash:
    def on_get(self, request: Request, response: Response) -> None:
        raise LookupError("crash")


class Fault:
    def on_get(self, request: Request, response: Response) -> None:
        raise ZeroDivisionError


def lost(request: Request, response: Response, error: Exception, params: dict[str, Any]) -> None:
    happened.append(f"error handler {error!r}")
    response.status = falcon.HTTP_410
    response.media = {"lost": str(error)}


@pytest.fixture
def app() -> App:
    happened.clear()
    made = App(middleware=[Watching()])
    made.add_route("/hello/{name}", Hello())
    made.add_route("/crash", Crash())
    made.add_route("/fault", Fault())
    made.add_error_handler(LookupError, lost)
    return made


def test_everything_runs_once_and_in_order(app, wrap):
    reply = batch(wrap(app), "/hello/ada", "/hello/bob")
    assert [entry["body"] for entry in reply.entries] == [
        {"hello": "ada", "hooked": "/hello/ada"},
        {"hello": "bob", "hooked": "/hello/bob"},
    ]
    assert happened == [
        "process_request /hello/ada",
        "process_resource {'name': 'ada'}",
        "before []",
        "after /hello/ada",
        "process_response /hello/ada True",
        "process_request /hello/bob",
        "process_resource {'name': 'bob'}",
        "before []",
        "after /hello/bob",
        "process_response /hello/bob True",
    ]


def test_events_are_those_of_the_requests_alone(app, wrap):
    targets = ["/hello/ada", "/hello/bob?early=1", "/crash", "/fault", "/nowhere", "/hello/eve"]
    alone = [ask(app, environ("GET", target)).status for target in targets]
    assert alone == [200, 202, 410, 500, 404, 200]
    expected = happened.copy()
    happened.clear()
    reply = batch(wrap(app), *targets)
    assert [int(entry["status_code"]) for entry in reply.entries] == alone
    assert happened == expected
    assert happened.count("error handler LookupError('crash')") == 1


def test_falcons_own_error_document_is_the_members(app, wrap):
    fault, nowhere = batch(wrap(app), "/fault", "/nowhere").entries
    assert fault["body"] == {"title": "500 Internal Server Error"}
    assert fault["headers"]["x-path"] == "/fault"  # Falcon's header names are lower case
    assert nowhere["body"] == {"title": "404 Not Found"}


def test_exception_that_a_handler_raises_again_is_an_application_error(app, wrap):
    def again(
        request: Request, response: Response, error: Exception, params: dict[str, Any]
    ) -> None:
        raise error

    app.add_error_handler(LookupError, again)
    crashed, ada = batch(wrap(app), "/crash", "/hello/ada").entries
    assert crashed["body"]["type"] == "urn:problem-type:batchwsgi:application-error"
    assert ada["body"]["hello"] == "ada"


def test_subrequest_in_a_responder(app, wrap):
    class Nested:
        def on_get(self, request: Request, response: Response) -> None:
            request.context.own = "kept"
            reply = subrequest(app, request.env, "GET", "/hello/inner")
            crash = subrequest(app, request.env, "GET", "/crash")
            response.media = {
                "inner": reply.json(),
                "crash": crash.status,
                "context": vars(request.context),
            }

    app.add_route("/nested", Nested())
    expected = {
        "inner": {"hello": "inner", "hooked": "/hello/inner"},
        "crash": 410,
        "context": {"own": "kept"},
    }
    assert ask(app, environ("GET", "/nested")).json() == expected
    assert batch(wrap(app), "/nested").entries[0]["body"] == expected
