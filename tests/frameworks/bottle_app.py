"""The small application, with Bottle."""

from __future__ import annotations

from collections.abc import Iterator

from bottle import Bottle, HTTPError, HTTPResponse, abort, redirect, request, response

from ..support import App
from . import content


def make_app() -> App:
    app = Bottle()

    @app.get("/json", name="ada")
    def ada():
        return content.ADA

    @app.get("/text")
    def text():
        response.content_type = "text/plain; charset=iso-8859-1"
        return content.GERMAN

    @app.get("/shift-jis")
    def shift_jis():
        response.content_type = "text/plain; charset=shift_jis"
        return content.JAPANESE

    @app.get("/image")
    def image():
        response.content_type = "image/png"
        return content.PNG

    @app.get("/empty")
    def empty():
        return HTTPResponse(status=204)

    @app.get("/redirect")
    def elsewhere():
        redirect(app.get_url("ada"), 302)

    @app.get("/bad")
    def bad():
        abort(400, "bad")

    @app.get("/crash")
    def crash():
        raise RuntimeError("crash")

    @app.get("/teapot")
    def teapot():
        abort(418)

    @app.error(418)
    def own_page(error: HTTPError):
        response.content_type = "application/json"
        return b'{"own": 418}'

    @app.get("/cookies/set")
    def cookies():
        response.set_cookie("rooted", "1", path="/")
        response.set_cookie("here", "2")
        response.set_cookie("guarded", "three", path="/cookies", httponly=True, samesite="lax")
        return content.ADA

    @app.get("/headers")
    def headers():
        response.set_header("X-Custom", "one")
        response.set_header("X-Latin", content.LATIN_HEADER)
        response.add_header("X-Seen", "a")
        response.add_header("X-Seen", "b")
        return content.ADA

    @app.get("/stream")
    def stream() -> Iterator[str]:
        response.content_type = "text/plain; charset=utf-8"
        yield ""
        yield from content.CHUNKS

    @app.post("/form")
    def form():
        return {
            "name": request.forms.getunicode("name"),
            "tag": request.forms.decode().getall("tag"),
        }

    @app.post("/echo")
    def echo():
        return {"echo": request.json}

    @app.get("/query")
    def query():
        return {
            "q": request.query.getunicode("q"),
            "tag": request.query.decode().getall("tag"),
        }

    @app.get("/path/<name>")
    def path(name: str):
        return {"name": name}

    @app.route("/raw", method=["POST", "PUT", "PATCH", "DELETE"])
    def raw():
        return {
            "method": request.method,
            "type": request.environ.get("CONTENT_TYPE"),
            "length": request.environ.get("CONTENT_LENGTH"),
            "body": request.body.read().hex(),
        }

    @app.get("/seen")
    def seen():
        return {
            "language": request.get_header("Accept-Language"),
            "authorization": request.get_header("Authorization"),
            "agent": request.get_header("User-Agent"),
            "cookie": request.get_cookie("who"),
        }

    @app.get("/etag")
    def etag():
        if request.get_header("If-None-Match") == '"v1"':
            return HTTPResponse(status=304, ETag='"v1"')
        response.set_header("ETag", '"v1"')
        return content.ADA

    @app.post("/whoami")
    def whoami():
        token = request.get_header("Authorization")
        if "bottle.request.ext.token" not in request.environ:
            request.token = token
        return {
            "token": token,
            "cached": request.token,
            "query": request.query.getunicode("name"),
            "body": request.json["name"],
        }

    return app
