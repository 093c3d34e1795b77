"""The shop with Django. Its settings are those of all Django tests, but for the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.contrib.sessions.models import Session
from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, connections, models, transaction
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from .database import Database
from .shop import Shop


class Order(models.Model):
    sku = models.TextField(unique=True)

    class Meta:
        app_label = "shop"
        db_table = "shop_order"


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)  # checked at COMMIT, as Django has it

    class Meta:
        app_label = "shop"
        db_table = "shop_line"


def login(request: HttpRequest):
    request.session["user"] = request.GET["user"]
    return JsonResponse({"user": request.GET["user"]}, status=int(request.GET.get("status", 200)))


def me(request: HttpRequest):
    user = request.session.get("user")
    return JsonResponse({"user": user}, status=200 if user else 401)


def orders(request: HttpRequest):
    if request.method == "POST":
        return ordered(request)
    return JsonResponse({"orders": [order.sku for order in Order.objects.order_by("id")]})


def ordered(request: HttpRequest):
    made = Order.objects.create(sku=json.loads(request.body)["sku"])
    headers = {"Location": f"/orders/{made.pk}"}
    return JsonResponse({"id": made.pk, "sku": made.sku}, status=201, headers=headers)


def tolerant(request: HttpRequest):
    try:
        with transaction.atomic():
            return ordered(request)
    except IntegrityError:
        return JsonResponse({"duplicate": True})


def order(request: HttpRequest, pk: int):
    found = Order.objects.filter(pk=pk).first()
    return JsonResponse({"sku": found.sku} if found else {}, status=200 if found else 404)


def lines(request: HttpRequest):
    made = Line.objects.create(order_id=json.loads(request.body)["order"])
    return JsonResponse({"id": made.pk}, status=201)


def crash(request: HttpRequest):
    with transaction.atomic():
        Order.objects.create(sku="crash")
    raise RuntimeError("crash")


def teapot(request: HttpRequest):
    return HttpResponse(status=418)


def big(request: HttpRequest):
    return HttpResponse("x" * 10_000)


VIEWS = {
    "login": login,
    "me": me,
    "orders": orders,
    "orders/tolerant": tolerant,
    "orders/<int:pk>": order,
    "lines": lines,
    "crash": crash,
    "teapot": teapot,
    "big": big,
}

urlpatterns = [path(route, csrf_exempt(view)) for route, view in VIEWS.items()]


@contextmanager
def databases(**settings: dict[str, Any]) -> Iterator[None]:
    """Have Django use these databases, by alias, in all threads, until the block ends.

    All connections that were made are closed then, those of threads that still live too.
    """
    made = []

    def connected(connection: Any, **signal: Any) -> None:
        made.append(connection)

    before = connections.settings
    wrappers = {connection.alias: connection for connection in connections.all(True)}
    for alias in wrappers:
        del connections[alias]
    connections.settings = connections.configure_settings(settings)
    connection_created.connect(connected)
    try:
        yield
    finally:
        connection_created.disconnect(connected)
        for connection in made:
            connection.inc_thread_sharing()
            connection.close()
        for connection in connections.all(True):
            del connections[connection.alias]
        connections.settings = before
        for alias, connection in wrappers.items():
            connections[alias] = connection


def create_tables(alias: str = "default") -> None:
    connection = connections[alias]
    with connection.schema_editor() as editor:
        for model in (Order, Line, Session):
            editor.create_model(model)
    connection.close()


@contextmanager
def opened(database: Database, tables: bool = True, **settings: Any) -> Iterator[Shop]:
    """The shop on `database`; `settings` are more settings of the database."""
    from . import recipe_django

    with ExitStack() as stack:
        stack.enter_context(databases(default=database.settings(**settings)))
        stack.enter_context(override_settings(ROOT_URLCONF=__name__))
        if tables:
            create_tables()
        yield Shop(get_wsgi_application(), recipe_django.batch_transaction, database)
