"""`/whoami` of the small application, on plain WebOb, as small frameworks on it are written.

Pyramid's request is WebOb's without the attributes that live in the environ; this one has them.
"""

from __future__ import annotations

from webob import Request, Response
from webob.dec import wsgify

from ..support import App


@wsgify
def whoami(request: Request):
    token = request.headers["Authorization"]
    if not hasattr(request, "token"):
        request.token = token  # in environ["webob.adhoc_attrs"]
    known = {
        "token": token,
        "cached": request.token,
        "query": request.GET["name"],
        "body": request.json["name"],
    }
    return Response(json=known)


def make_app() -> App:
    return whoami
