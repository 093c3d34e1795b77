"""The small application, with Flask."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, abort, g, jsonify, redirect, request, url_for
from werkzeug.exceptions import HTTPException

from ..support import App
from . import content
from .sized_reads import sized_reads


def make_app() -> App:
    app = Flask(__name__)

    @app.get("/json")
    def ada():
        return content.ADA

    @app.get("/text")
    def text():
        return Response(
            content.GERMAN.encode("latin-1"), content_type="text/plain; charset=iso-8859-1"
        )

    @app.get("/shift-jis")
    def shift_jis():
        return Response(
            content.JAPANESE.encode("shift_jis"), content_type="text/plain; charset=shift_jis"
        )

    @app.get("/image")
    def image():
        return Response(content.PNG, content_type="image/png")

    @app.get("/empty")
    def empty():
        response = Response(status=204)
        # Flask leaves its default Content-Type on a 204, which wsgiref.validate does not accept.
        del response.headers["Content-Type"]
        return response

    @app.get("/redirect")
    def elsewhere():
        return redirect(url_for("ada"))

    @app.get("/bad")
    def bad():
        abort(400)

    @app.get("/crash")
    def crash():
        raise RuntimeError("crash")

    @app.get("/teapot")
    def teapot():
        abort(418)

    @app.errorhandler(418)
    def own_page(error: HTTPException):
        return {"own": error.code}, 418

    @app.get("/cookies/set")
    def cookies():
        response = jsonify(content.ADA)
        response.set_cookie("rooted", "1")
        response.set_cookie("here", "2", path=None)
        response.set_cookie("guarded", "three", path="/cookies", httponly=True, samesite="Lax")
        return response

    @app.get("/headers")
    def headers():
        response = jsonify(content.ADA)
        response.headers["X-Custom"] = "one"
        response.headers["X-Latin"] = content.LATIN_HEADER
        response.headers.add("X-Seen", "a")
        response.headers.add("X-Seen", "b")
        return response

    @app.get("/stream")
    def stream():
        def chunks() -> Iterator[bytes]:
            yield b""
            for chunk in content.CHUNKS:
                yield chunk.encode()

        return Response(chunks(), content_type="text/plain; charset=utf-8")

    @app.post("/form")
    def form():
        return {"name": request.form["name"], "tag": request.form.getlist("tag")}

    @app.post("/echo")
    def echo():
        return {"echo": request.json}

    @app.get("/query")
    def query():
        return {"q": request.args.get("q"), "tag": request.args.getlist("tag")}

    @app.get("/path/<name>")
    def path(name: str):
        return {"name": name}

    @app.route("/raw", methods=["POST", "PUT", "PATCH", "DELETE"])
    def raw():
        return {
            "method": request.method,
            "type": request.environ.get("CONTENT_TYPE"),
            "length": request.environ.get("CONTENT_LENGTH"),
            "body": request.get_data().hex(),
        }

    @app.get("/seen")
    def seen():
        return {
            "language": request.headers.get("Accept-Language"),
            "authorization": request.headers.get("Authorization"),
            "agent": request.headers.get("User-Agent"),
            "cookie": request.cookies.get("who"),
        }

    @app.get("/etag")
    def etag():
        response = jsonify(content.ADA)
        response.set_etag("v1")
        return response.make_conditional(request)

    @app.post("/whoami")
    def whoami():
        token = request.headers["Authorization"]
        return {
            "token": token,
            "cached": g.setdefault("token", token),
            "query": request.args["name"],
            "body": request.json["name"],
        }

    app.wsgi_app = sized_reads(app.wsgi_app)
    return app
