"""The application behind nginx, with and without `authorize`: it answers who the client is.

The environment variable `RATE` is the limit of the guarded endpoint, as `5/hour`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from batchwsgi import BatchMiddleware

from ..support import Environ
from .apps import record
from .recipes import RateLimit, limited, no_admin

SHOWN = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")


def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
    record().add("called", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: environ.get(key) for key in SHOWN}).encode()]


plain = BatchMiddleware(app)
"""What a batch is without rules of its own."""

rate_limit = RateLimit(os.environ.get("RATE", "1000/hour"))


def authorize(environ: Environ) -> None:
    no_admin(environ)
    rate_limit.count(environ)


guarded = ProxyFix(BatchMiddleware(app, authorize=authorize))
"""With both recipes. `ProxyFix` outside, so that `REMOTE_ADDR` is the client and not nginx."""

batches = RateLimit("2/hour")
counted = ProxyFix(limited(BatchMiddleware(app), batches.count))
"""With a limit of the batches themselves."""
