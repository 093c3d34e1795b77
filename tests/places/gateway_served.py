"""The gateway as gunicorn serves it: the recipe's, with the services of a test behind it.

The environment variables `USERS` and `ORDERS` are where they are. Beside the recipe's `/batch`
there are `/upload`, whose batches may be large, and `/bare`, which has werkzeug's proxy without the
recipe around it, as has `/users/bare` for requests on their own.
"""

from __future__ import annotations

import os
from typing import Any

from werkzeug.exceptions import NotFound
from werkzeug.middleware.http_proxy import ProxyMiddleware

from batchwsgi import BatchMiddleware, Limits

from ..support import Environ
from . import recipe_gateway

TIMEOUT = 0.5
"""Seconds that the gateway waits for each read, instead of the recipe's ten."""

TARGETS = {"/users/": os.environ["USERS"], "/orders/": os.environ["ORDERS"]}
for prefix, options in recipe_gateway.SERVICES.items():
    options["target"] = TARGETS[prefix]
recipe_gateway.proxy.timeout = TIMEOUT

bare = ProxyMiddleware(NotFound(), {prefix: {"target": url} for prefix, url in TARGETS.items()})

ENDPOINTS = {
    "/upload": BatchMiddleware(
        recipe_gateway.gateway, "/upload", limits=Limits(max_body_size=8_000_000)
    ),
    "/bare": BatchMiddleware(bare, "/bare"),
    "/users/bare": bare,
}


def application(environ: Environ, start_response: Any) -> Any:
    app = ENDPOINTS.get(environ["PATH_INFO"], recipe_gateway.application)
    return app(environ, start_response)
