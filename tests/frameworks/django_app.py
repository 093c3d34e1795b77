"""The small application, with Django, and the settings of all Django tests.

Django has one configuration for each process. It is made here, when this module is imported, and
nowhere else in this package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import django
from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.wsgi import get_wsgi_application
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path as route
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition, require_http_methods, require_POST, require_safe

from ..support import App
from . import content

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.sessions"],
        # The default of `startproject`, less what needs users and messages.
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        LOGGING_CONFIG=None,
    )
    django.setup()


@csrf_exempt  # so that a DELETE is answered with 405
@require_safe
def ada(request: HttpRequest):
    return JsonResponse(content.ADA)


@require_safe
def text(request: HttpRequest):
    return HttpResponse(content.GERMAN, content_type="text/plain; charset=iso-8859-1")


@require_safe
def shift_jis(request: HttpRequest):
    return HttpResponse(content.JAPANESE, content_type="text/plain; charset=shift_jis")


@require_safe
def image(request: HttpRequest):
    return HttpResponse(content.PNG, content_type="image/png")


@require_safe
def empty(request: HttpRequest):
    response = HttpResponse(status=204)
    # Django leaves its default Content-Type on a 204, which wsgiref.validate does not accept.
    del response["Content-Type"]
    return response


@require_safe
def elsewhere(request: HttpRequest):
    return HttpResponseRedirect(reverse(ada))


@require_safe
def bad(request: HttpRequest):
    raise BadRequest("bad")


@require_safe
def crash(request: HttpRequest):
    raise RuntimeError("crash")


@require_safe
def teapot(request: HttpRequest):
    return JsonResponse({"own": 418}, status=418)


@require_safe
def cookies(request: HttpRequest):
    response = JsonResponse(content.ADA)
    response.set_cookie("rooted", "1")
    response.set_cookie("here", "2", path=None)
    response.set_cookie("guarded", "three", path="/cookies", httponly=True, samesite="Lax")
    return response


@require_safe
def headers(request: HttpRequest):
    # A Django response holds each header once; only Set-Cookie repeats.
    response = JsonResponse(content.ADA)
    response["X-Custom"] = "one"
    response["X-Latin"] = content.LATIN_HEADER
    response["X-Seen"] = "a, b"
    return response


@require_safe
def stream(request: HttpRequest):
    def chunks() -> Iterator[str]:
        yield ""
        yield from content.CHUNKS

    return StreamingHttpResponse(chunks(), content_type="text/plain; charset=utf-8")


@csrf_exempt
@require_POST
def form(request: HttpRequest):
    return JsonResponse({"name": request.POST["name"], "tag": request.POST.getlist("tag")})


@csrf_exempt
@require_POST
def echo(request: HttpRequest):
    return JsonResponse({"echo": json.loads(request.body)})


@require_safe
def query(request: HttpRequest):
    return JsonResponse({"q": request.GET.get("q"), "tag": request.GET.getlist("tag")})


@require_safe
def path(request: HttpRequest, name: str):
    return JsonResponse({"name": name})


@csrf_exempt
@require_http_methods(["POST", "PUT", "PATCH", "DELETE"])
def raw(request: HttpRequest):
    found = {
        "method": request.method,
        "type": request.META.get("CONTENT_TYPE"),
        "length": request.META.get("CONTENT_LENGTH"),
        "body": request.body.hex(),
    }
    return JsonResponse(found)


@require_safe
def seen(request: HttpRequest):
    found = {
        "language": request.headers.get("Accept-Language"),
        "authorization": request.headers.get("Authorization"),
        "agent": request.headers.get("User-Agent"),
        "cookie": request.COOKIES.get("who"),
    }
    return JsonResponse(found)


@require_safe
@condition(etag_func=lambda request: '"v1"')
def etag(request: HttpRequest):
    return JsonResponse(content.ADA)


@csrf_exempt
@require_POST
def whoami(request: HttpRequest):
    token = request.headers["Authorization"]
    known = {
        "token": token,
        "cached": request.META.setdefault("myproject.token", token),  # META is the environ
        "query": request.GET["name"],
        "body": json.loads(request.body)["name"],
    }
    return JsonResponse(known)


urlpatterns = [
    route("json", ada),
    route("text", text),
    route("shift-jis", shift_jis),
    route("image", image),
    route("empty", empty),
    route("redirect", elsewhere),
    route("bad", bad),
    route("crash", crash),
    route("teapot", teapot),
    route("cookies/set", cookies),
    route("headers", headers),
    route("stream", stream),
    route("form", form),
    route("echo", echo),
    route("query", query),
    route("path/<str:name>", path),
    route("raw", raw),
    route("seen", seen),
    route("etag", etag),
    route("whoami", whoami),
]


def make_app() -> App:
    return get_wsgi_application()
