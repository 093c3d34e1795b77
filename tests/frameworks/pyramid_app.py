"""The small application, with Pyramid.

Two things that other frameworks do by themselves are configured here, as a Pyramid application
would: a 405 (a predicate that does not match is a 404) and a page for exceptions (which otherwise
leave the router).
"""

from __future__ import annotations

from pyramid.config import Configurator
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPFound,
    HTTPInternalServerError,
    HTTPMethodNotAllowed,
    HTTPNoContent,
)
from pyramid.request import Request
from pyramid.response import Response

from ..support import App
from . import content


class Teapot(Exception):
    """What `/teapot` raises."""


def ada(request: Request):
    return content.ADA


def not_allowed(request: Request):
    raise HTTPMethodNotAllowed(headers=[("Allow", "GET, HEAD")])


def text(request: Request):
    body = content.GERMAN.encode("latin-1")
    return Response(body, content_type="text/plain", charset="iso-8859-1")


def shift_jis(request: Request):
    body = content.JAPANESE.encode("shift_jis")
    return Response(body, content_type="text/plain", charset="shift_jis")


def image(request: Request):
    return Response(content.PNG, content_type="image/png")


def empty(request: Request):
    return HTTPNoContent()


def elsewhere(request: Request):
    raise HTTPFound(request.route_path("json"))


def bad(request: Request):
    raise HTTPBadRequest("bad")


def crash(request: Request):
    raise RuntimeError("crash")


def crashed(request: Request):
    return HTTPInternalServerError()


def teapot(request: Request):
    raise Teapot


def own_page(request: Request):
    request.response.status_int = 418
    return {"own": 418}


def cookies(request: Request):
    request.response.set_cookie("rooted", "1")
    request.response.set_cookie("here", "2", path=None)
    request.response.set_cookie("guarded", "three", path="/cookies", httponly=True, samesite="Lax")
    return content.ADA


def headers(request: Request):
    headers = request.response.headers
    headers["X-Custom"] = "one"
    headers["X-Latin"] = content.LATIN_HEADER
    headers.add("X-Seen", "a")
    headers.add("X-Seen", "b")
    return content.ADA


def stream(request: Request):
    chunks = (chunk.encode() for chunk in ["", *content.CHUNKS])
    return Response(app_iter=chunks, content_type="text/plain", charset="utf-8")


def form(request: Request):
    return {"name": request.POST["name"], "tag": request.POST.getall("tag")}


def echo(request: Request):
    return {"echo": request.json_body}


def query(request: Request):
    return {"q": request.GET.get("q"), "tag": request.GET.getall("tag")}


def path(request: Request):
    return {"name": request.matchdict["name"]}


def raw(request: Request):
    return {
        "method": request.method,
        "type": request.environ.get("CONTENT_TYPE"),
        "length": request.environ.get("CONTENT_LENGTH"),
        "body": request.body.hex(),
    }


def seen(request: Request):
    return {
        "language": request.headers.get("Accept-Language"),
        "authorization": request.headers.get("Authorization"),
        "agent": request.headers.get("User-Agent"),
        "cookie": request.cookies.get("who"),
    }


def etag(request: Request):
    request.response.conditional_response = True
    request.response.etag = "v1"
    return content.ADA


def whoami(request: Request):
    token = request.headers["Authorization"]
    if not hasattr(request, "token"):
        request.token = token
    return {
        "token": token,
        "cached": request.token,
        "query": request.GET["name"],
        "body": request.json_body["name"],
    }


GET = {
    "/text": text,
    "/shift-jis": shift_jis,
    "/image": image,
    "/empty": empty,
    "/redirect": elsewhere,
    "/bad": bad,
    "/crash": crash,
    "/teapot": teapot,
    "/cookies/set": cookies,
    "/headers": headers,
    "/stream": stream,
    "/query": query,
    "/path/{name}": path,
    "/seen": seen,
    "/etag": etag,
}
POST = {"/form": form, "/echo": echo, "/whoami": whoami}


def make_app() -> App:
    with Configurator() as config:
        config.add_route("json", "/json")
        config.add_view(ada, route_name="json", request_method="GET", renderer="json")
        config.add_view(not_allowed, route_name="json")
        config.add_route("raw", "/raw")
        methods = ("POST", "PUT", "PATCH", "DELETE")
        config.add_view(raw, route_name="raw", request_method=methods, renderer="json")
        for method, views in (("GET", GET), ("POST", POST)):
            for pattern, view in views.items():
                config.add_route(view.__name__, pattern)
                config.add_view(
                    view, route_name=view.__name__, request_method=method, renderer="json"
                )
        config.add_exception_view(crashed)
        config.add_exception_view(own_page, context=Teapot, renderer="json")
        return config.make_wsgi_app()
