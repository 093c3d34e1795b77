"""A small application to try batches on: users and orders, in memory.

`python -m batchwsgi` serves it. It is an ordinary application that knows nothing of batches.
"""

from __future__ import annotations

import json
import secrets
import struct
import zlib
from collections.abc import Callable
from itertools import count
from typing import Any

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, Unauthorized
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

TOKEN = "ada-t0k"
"""Who sends it as a bearer token (RFC 6750) is Ada."""

ROUTES = {
    "GET  /user/~me": "who you are; ?fields=name,mail picks some of it",
    "PUT  /user/~me/oauth/<site>": "remember the token of another site",
    "POST /login": "log in with a form, name=ada; sets a cookie",
    "GET  /orders": "your orders; ?sku=A1 picks some",
    "POST /orders": 'place an order, {"sku": "A1", "n": 2}',
    "GET  /orders/<n>": "one order",
    "GET  /me": "a redirect to /user/~me",
    "GET  /about": "a page of text",
    "GET  /logo.png": "a picture",
    "GET  /error": "a view that raises an exception",
}

BATCH = """\
{"requests": [
  {"uri": "/user/~me", "args": {"fields": "name"}},
  {"method": "put", "uri": "/user/~me/oauth/QZONE", "args": {"token": "t0k"}},
  {"id": "order", "method": "post", "uri": "/orders", "body": {"sku": "A1", "n": 2}},
  {"uri": "/orders?sku=A1"},
  {"uri": "/me"},
  {"uri": "/about"},
  {"uri": "/logo.png"},
  {"uri": "/nothing/here"},
  {"uri": "/error"}
]}"""
"""A batch that shows what the demo has."""


class Demo:
    """The application; each instance has its own users, sessions and orders."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {
            "ada": {"name": "Ada", "mail": "ada@example.org", "oauth": {}},
            "grace": {"name": "Grace", "mail": "grace@example.org", "oauth": {}},
        }
        self.sessions: dict[str, str] = {}
        self.orders: dict[int, dict[str, Any]] = {}
        self._numbers = count(1)
        self._map = Map(
            [
                Rule("/user/~me", endpoint=self.show_user, methods=["GET"]),
                Rule("/user/~me/oauth/<site>", endpoint=self.set_oauth, methods=["PUT"]),
                Rule("/login", endpoint=self.login, methods=["POST"]),
                Rule("/orders", endpoint=self.list_orders, methods=["GET"]),
                Rule("/orders", endpoint=self.place_order, methods=["POST"]),
                Rule("/orders/<int:number>", endpoint=self.show_order, methods=["GET"]),
                Rule("/me", endpoint=self.me, methods=["GET"]),
                Rule("/about", endpoint=self.about, methods=["GET"]),
                Rule("/logo.png", endpoint=self.logo, methods=["GET"]),
                Rule("/error", endpoint=self.error, methods=["GET"]),
            ]
        )

    def respond(self, request: Request) -> Response:
        """The response to `request`; what a view refuses is an error page."""
        try:
            view: Callable[..., Response]
            view, arguments = self._map.bind_to_environ(request).match()
            return view(request, **arguments)
        except HTTPException as error:
            return error.get_response()

    def _user(self, request: Request) -> str:
        """The name of the user who asks, by token or by cookie."""
        if request.authorization and request.authorization.token == TOKEN:
            return "ada"
        try:
            return self.sessions[request.cookies.get("session", "")]
        except KeyError:
            raise Unauthorized("Send a token or log in.") from None

    def show_user(self, request: Request) -> Response:
        user = self.users[self._user(request)]
        fields = request.args.get("fields")
        return _json({field: user.get(field) for field in fields.split(",")} if fields else user)

    def set_oauth(self, request: Request, site: str) -> Response:
        self.users[self._user(request)]["oauth"][site] = request.form["token"]
        return _json({"site": site})

    def login(self, request: Request) -> Response:
        name = request.form["name"]
        if name not in self.users:
            raise Unauthorized("There is no such user.")
        session = secrets.token_hex()
        self.sessions[session] = name
        response = _json({"hello": self.users[name]["name"]})
        response.set_cookie("session", session, httponly=True, samesite="Lax")
        return response

    def list_orders(self, request: Request) -> Response:
        user, sku = self._user(request), request.args.get("sku")
        orders = [order for order in self.orders.values() if order["user"] == user]
        return _json([order for order in orders if sku in (None, order["sku"])])

    def place_order(self, request: Request) -> Response:
        user, order = self._user(request), request.get_json()
        if not isinstance(order, dict) or not isinstance(order.get("sku"), str):
            raise BadRequest("An order has a sku.")
        number = next(self._numbers)
        self.orders[number] = {
            "number": number,
            "user": user,
            "sku": order["sku"],
            "n": order.get("n", 1),
        }
        response = _json(self.orders[number], 201)
        response.location = f"/orders/{number}"
        return response

    def show_order(self, request: Request, number: int) -> Response:
        order = self.orders.get(number)
        if order is None or order["user"] != self._user(request):
            raise NotFound("You have no such order.")
        return _json(order)

    def me(self, request: Request) -> Response:
        return redirect("/user/~me")

    def about(self, request: Request) -> Response:
        return Response("One round trip instead of twenty.\n", mimetype="text/plain")

    def logo(self, request: Request) -> Response:
        return Response(_png(8, 8, b"\x1f\x77\xb4"), mimetype="image/png")

    def error(self, request: Request) -> Response:
        raise RuntimeError("This view always fails.")


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value) + "\n", status, mimetype="application/json")


def _png(width: int, height: int, colour: bytes) -> bytes:
    """A picture of one colour (PNG, ISO/IEC 15948)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + colour * width) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


app = Request.application(Demo().respond)
