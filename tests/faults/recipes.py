"""The README's recipes for `authorize`, and what goes with them, as they are tested here."""

from __future__ import annotations

import time
from importlib import import_module
from math import ceil
from typing import Any

from werkzeug.exceptions import Forbidden, TooManyRequests

from ..support import App, Environ

# --- Rules for paths --------------------------------------------------------------------------


def no_admin(environ: Environ) -> None:
    """What `location /admin { deny all; }` says of requests that come one by one."""
    if environ["PATH_INFO"].startswith("/admin"):
        raise Forbidden


# --- A rate limit -----------------------------------------------------------------------------


class RateLimit:
    """Requests of each client, counted with the library `limits`."""

    def __init__(self, rate: str) -> None:
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import FixedWindowRateLimiter

        self.rate = parse(rate)
        self.limiter = FixedWindowRateLimiter(MemoryStorage())

    def count(self, environ: Environ) -> None:
        client = environ["REMOTE_ADDR"]
        if not self.limiter.hit(self.rate, client):
            reset = self.limiter.get_window_stats(self.rate, client).reset_time
            raise TooManyRequests(retry_after=max(1, ceil(reset - time.time())))


def limited(app: App, count: Any, path: str = "/batch") -> App:
    """Count whole batches too, before they are read."""

    def application(environ: Environ, start_response: Any) -> Any:
        try:
            if environ["PATH_INFO"] == path:
                count(environ)
        except TooManyRequests as refusal:
            return refusal(environ, start_response)
        return app(environ, start_response)

    return application


# --- Django -----------------------------------------------------------------------------------


def staff_only(environ: Environ) -> None:
    """Nobody but staff reaches /admin/ through a batch, whatever the view itself checks."""
    from django.conf import settings
    from django.contrib.auth import get_user
    from django.core.handlers.wsgi import WSGIRequest

    if environ["PATH_INFO"].startswith("/admin/"):
        request = WSGIRequest(environ.copy())
        sessions = import_module(settings.SESSION_ENGINE)
        request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        if not get_user(request).is_staff:
            raise Forbidden


def staff_only_in_batches(get_response: Any) -> Any:
    """The same as Django middleware, after `AuthenticationMiddleware`."""
    from django.core.exceptions import PermissionDenied

    def middleware(request: Any) -> Any:
        in_batch = "batchwsgi.request" in request.META
        if in_batch and request.path_info.startswith("/admin/") and not request.user.is_staff:
            raise PermissionDenied
        return get_response(request)

    return middleware
