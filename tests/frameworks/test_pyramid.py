"""What is particular to Pyramid: tweens, events, callbacks, and its stack of requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.events import BeforeRender, BeforeTraversal, ContextFound, NewRequest, NewResponse
from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.threadlocal import get_current_request, manager

from batchwsgi import subrequest

from ..support import ask, batch, environ

happened: list[str] = []


def note(event: str, request: Request) -> None:
    happened.append(f"{event} {request.path}")


def tween_factory(handler: Callable[[Request], Response], registry: Any) -> Any:
    def tween(request: Request) -> Response:
        note("tween in", request)
        if "early" in request.GET:
            return Response("early", 202)
        try:
            response = handler(request)
        finally:
            note("tween out", request)
        return response

    return tween


def on_event(event: Any) -> None:
    request = event["request"] if isinstance(event, BeforeRender) else event.request
    note(type(event).__name__, request)


def hello(request: Request):
    request.add_response_callback(lambda request, response: note("response callback", request))
    request.add_finished_callback(lambda request: note("finished callback", request))
    return {
        "hello": request.matchdict["name"],
        "current": get_current_request() is request,
        "depth": len(manager.stack),
    }


def crash(request: Request):
    request.add_finished_callback(lambda request: note("finished callback", request))
    raise LookupError("crash")


def lost(error: LookupError, request: Request):
    note(f"exception view {error!r}", request)
    return Response("lost", 410)


def not_found(error: HTTPNotFound, request: Request):
    note("not found view", request)
    return Response("nothing here", 404)


@pytest.fixture
def config() -> Configurator:
    happened.clear()
    made = Configurator()
    made.add_tween(f"{__name__}.tween_factory")
    for event in (NewRequest, BeforeTraversal, ContextFound, NewResponse, BeforeRender):
        made.add_subscriber(on_event, event)
    for pattern, view in {"/hello/{name}": hello, "/crash": crash}.items():
        made.add_route(view.__name__, pattern)
        made.add_view(view, route_name=view.__name__, renderer="json")
    made.add_notfound_view(not_found)
    return made


def test_everything_runs_once_and_in_order(config, wrap):
    reply = batch(wrap(config.make_wsgi_app()), "/hello/ada")
    assert reply.entries[0]["body"] == {"hello": "ada", "current": True, "depth": 1}
    assert happened == [
        "tween in /hello/ada",
        "NewRequest /hello/ada",
        "BeforeTraversal /hello/ada",
        "ContextFound /hello/ada",
        "BeforeRender /hello/ada",
        "tween out /hello/ada",
        "response callback /hello/ada",
        "NewResponse /hello/ada",
        "finished callback /hello/ada",
    ]


def test_events_are_those_of_the_requests_alone(config, wrap):
    config.add_exception_view(lost, context=LookupError)
    app = config.make_wsgi_app()
    targets = ["/hello/ada", "/hello/bob?early=1", "/crash", "/nowhere", "/hello/eve"]
    alone = [ask(app, environ("GET", target)).status for target in targets]
    assert alone == [200, 202, 410, 404, 200]
    expected = happened.copy()
    happened.clear()
    reply = batch(wrap(app), *targets)
    assert [int(entry["status_code"]) for entry in reply.entries] == alone
    assert happened == expected
    assert happened.count("exception view LookupError('crash') /crash") == 1


def test_exception_without_a_view_is_an_application_error(config, wrap):
    """Pyramid's router raises what no exception view handles."""
    crashed, ada = batch(wrap(config.make_wsgi_app()), "/crash", "/hello/ada").entries
    assert crashed["status_code"] == "500"
    assert crashed["body"]["type"] == "urn:problem-type:batchwsgi:application-error"
    assert "finished callback /crash" in happened
    assert ada["body"] == {"hello": "ada", "current": True, "depth": 1}
    assert manager.stack == []


def test_subrequest_in_a_view(config, wrap):
    def nested(request: Request):
        replies = [subrequest(app, request.environ, "GET", f"/{t}") for t in ("hello/in", "crash")]
        return {
            "inner": replies[0].json(),
            "crash": replies[1].status,
            "current": get_current_request() is request,
        }

    config.add_route("nested", "/nested")
    config.add_view(nested, route_name="nested", renderer="json")
    app = config.make_wsgi_app()
    expected = {
        "inner": {"hello": "in", "current": True, "depth": 2},
        "crash": 500,
        "current": True,
    }
    assert ask(app, environ("GET", "/nested")).json() == expected
    first, second = batch(wrap(app), "/nested", "/hello/out").entries
    assert first["body"] == expected
    assert second["body"] == {"hello": "out", "current": True, "depth": 1}
