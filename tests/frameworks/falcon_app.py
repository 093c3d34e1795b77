"""The small application, with Falcon."""

from __future__ import annotations

from collections.abc import Callable

import falcon
from falcon import Request, Response
from falcon.media.multipart import MultipartForm

from ..support import App
from . import content


class Teapot(Exception):
    """What `/teapot` raises."""


def ada(request: Request, response: Response) -> None:
    response.media = content.ADA


def text(request: Request, response: Response) -> None:
    response.content_type = "text/plain; charset=iso-8859-1"
    response.data = content.GERMAN.encode("latin-1")


def shift_jis(request: Request, response: Response) -> None:
    response.content_type = "text/plain; charset=shift_jis"
    response.data = content.JAPANESE.encode("shift_jis")


def image(request: Request, response: Response) -> None:
    response.content_type = "image/png"
    response.data = content.PNG


def empty(request: Request, response: Response) -> None:
    response.status = falcon.HTTP_204


def elsewhere(request: Request, response: Response) -> None:
    raise falcon.HTTPFound(f"{request.root_path}/json")


def bad(request: Request, response: Response) -> None:
    raise falcon.HTTPBadRequest(title="bad")


def crash(request: Request, response: Response) -> None:
    raise RuntimeError("crash")


def teapot(request: Request, response: Response) -> None:
    raise Teapot


def own_page(
    request: Request, response: Response, error: Exception, params: dict[str, str]
) -> None:
    response.status = falcon.HTTP_418
    response.media = {"own": 418}


def cookies(request: Request, response: Response) -> None:
    response.set_cookie("rooted", "1", path="/", secure=False)
    response.set_cookie("here", "2", secure=False)
    response.set_cookie("guarded", "three", path="/cookies", http_only=True, same_site="Lax")
    response.media = content.ADA


def headers(request: Request, response: Response) -> None:
    response.set_header("X-Custom", "one")
    response.set_header("X-Latin", content.LATIN_HEADER)
    response.append_header("X-Seen", "a")
    response.append_header("X-Seen", "b")
    response.media = content.ADA


def stream(request: Request, response: Response) -> None:
    response.content_type = "text/plain; charset=utf-8"
    response.stream = (chunk.encode() for chunk in ["", *content.CHUNKS])


def form(request: Request, response: Response) -> None:
    fields = request.get_media()
    if isinstance(fields, MultipartForm):  # Falcon gives its parts, one after the other
        parts = [(part.name, part.text) for part in fields]
        fields = dict(parts) | {"tag": [text for name, text in parts if name == "tag"]}
    response.media = {"name": fields["name"], "tag": fields["tag"]}


def echo(request: Request, response: Response) -> None:
    response.media = {"echo": request.get_media()}


def query(request: Request, response: Response) -> None:
    response.media = {
        "q": request.get_param("q"),
        "tag": request.get_param_as_list("tag", default=[]),
    }


def path(request: Request, response: Response, name: str) -> None:
    response.media = {"name": name}


def raw(request: Request, response: Response) -> None:
    response.media = {
        "method": request.method,
        "type": request.env.get("CONTENT_TYPE"),
        "length": request.env.get("CONTENT_LENGTH"),
        "body": request.bounded_stream.read().hex(),
    }


def seen(request: Request, response: Response) -> None:
    response.media = {
        "language": request.get_header("Accept-Language"),
        "authorization": request.auth,
        "agent": request.user_agent,
        "cookie": request.cookies.get("who"),
    }


def etag(request: Request, response: Response) -> None:
    response.etag = "v1"
    if response.get_header("ETag") in (request.get_header("If-None-Match") or ""):
        raise falcon.HTTPStatus(falcon.HTTP_304)
    response.media = content.ADA


def whoami(request: Request, response: Response) -> None:
    token = request.auth
    if "token" not in request.context:
        request.context.token = token
    response.media = {
        "token": token,
        "cached": request.context.token,
        "query": request.get_param("name", required=True),
        "body": request.get_media()["name"],
    }


def resource(**responders: Callable[..., None]) -> object:
    """A resource with these responders, by method in lower case."""
    methods = {f"on_{method}": staticmethod(view) for method, view in responders.items()}
    return type("Resource", (), methods)()


GET = {
    "/json": ada,
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
    app = falcon.App()
    app.add_error_handler(Teapot, own_page)
    app.add_route("/raw", resource(post=raw, put=raw, patch=raw, delete=raw))
    for template, view in GET.items():
        app.add_route(template, resource(get=view, head=view))
    for template, view in POST.items():
        app.add_route(template, resource(post=view))
    return app
