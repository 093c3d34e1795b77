"""The small application, with a framework of one class on werkzeug's routing.

It stands for the frameworks that a company writes itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from werkzeug.exceptions import HTTPException, InternalServerError, abort
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from ..support import App, Environ
from . import content
from .sized_reads import sized_reads


class MiniFramework:
    """Routes by a `Map`; a view gets the request and the arguments of its rule."""

    def __init__(self) -> None:
        self.routes = Map()
        self.views: dict[str, Callable[..., Response]] = {}

    def route(self, rule: str, *methods: str) -> Callable[..., Any]:
        def register(view: Callable[..., Response]) -> Callable[..., Response]:
            self.views[view.__name__] = view
            self.routes.add(Rule(rule, endpoint=view.__name__, methods=methods or ["GET"]))
            return view

        return register

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        # As several small frameworks do it: whoever asks for the request of an environ gets one.
        request = environ.get("werkzeug.request") or Request(environ)
        urls = self.routes.bind_to_environ(environ)
        request.url_for = urls.build
        try:
            endpoint, arguments = urls.match()
            response = self.views[endpoint](request, **arguments)
        except HTTPException as error:
            response = error
        except Exception as error:
            response = InternalServerError(original_exception=error)
        return response(environ, start_response)


def reply(document: Any, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")


def make_app() -> App:
    app = MiniFramework()

    @app.route("/json")
    def ada(request: Request):
        return reply(content.ADA)

    @app.route("/text")
    def text(request: Request):
        body = content.GERMAN.encode("latin-1")
        return Response(body, content_type="text/plain; charset=iso-8859-1")

    @app.route("/shift-jis")
    def shift_jis(request: Request):
        body = content.JAPANESE.encode("shift_jis")
        return Response(body, content_type="text/plain; charset=shift_jis")

    @app.route("/image")
    def image(request: Request):
        return Response(content.PNG, content_type="image/png")

    @app.route("/empty")
    def empty(request: Request):
        response = Response(status=204)
        # werkzeug leaves its default Content-Type on a 204; wsgiref.validate does not accept it.
        del response.headers["Content-Type"]
        return response

    @app.route("/redirect")
    def elsewhere(request: Request):
        return redirect(request.url_for("ada"))

    @app.route("/bad")
    def bad(request: Request):
        abort(400)

    @app.route("/crash")
    def crash(request: Request):
        raise RuntimeError("crash")

    @app.route("/teapot")
    def teapot(request: Request):
        return reply({"own": 418}, 418)

    @app.route("/cookies/set")
    def cookies(request: Request):
        response = reply(content.ADA)
        response.set_cookie("rooted", "1")
        response.set_cookie("here", "2", path=None)
        response.set_cookie("guarded", "three", path="/cookies", httponly=True, samesite="Lax")
        return response

    @app.route("/headers")
    def headers(request: Request):
        response = reply(content.ADA)
        response.headers["X-Custom"] = "one"
        response.headers["X-Latin"] = content.LATIN_HEADER
        response.headers.add("X-Seen", "a")
        response.headers.add("X-Seen", "b")
        return response

    @app.route("/stream")
    def stream(request: Request):
        def chunks() -> Iterator[bytes]:
            yield b""
            for chunk in content.CHUNKS:
                yield chunk.encode()

        return Response(chunks(), content_type="text/plain; charset=utf-8")

    @app.route("/form", "POST")
    def form(request: Request):
        return reply({"name": request.form["name"], "tag": request.form.getlist("tag")})

    @app.route("/echo", "POST")
    def echo(request: Request):
        return reply({"echo": request.json})

    @app.route("/query")
    def query(request: Request):
        return reply({"q": request.args.get("q"), "tag": request.args.getlist("tag")})

    @app.route("/path/<name>")
    def path(request: Request, name: str):
        return reply({"name": name})

    @app.route("/raw", "POST", "PUT", "PATCH", "DELETE")
    def raw(request: Request):
        seen = {
            "method": request.method,
            "type": request.environ.get("CONTENT_TYPE"),
            "length": request.environ.get("CONTENT_LENGTH"),
            "body": request.get_data().hex(),
        }
        return reply(seen)

    @app.route("/seen")
    def seen(request: Request):
        found = {
            "language": request.headers.get("Accept-Language"),
            "authorization": request.headers.get("Authorization"),
            "agent": request.headers.get("User-Agent"),
            "cookie": request.cookies.get("who"),
        }
        return reply(found)

    @app.route("/etag")
    def etag(request: Request):
        response = reply(content.ADA)
        response.set_etag("v1")
        return response.make_conditional(request)

    @app.route("/whoami", "POST")
    def whoami(request: Request):
        token = request.headers["Authorization"]
        known = {
            "token": token,
            "cached": request.environ.setdefault("werkzeug.session", {"token": token})["token"],
            "query": request.args["name"],
            "body": request.json["name"],
        }
        return reply(known)

    return sized_reads(app)
