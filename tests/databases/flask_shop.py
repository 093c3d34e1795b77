"""The shop with Flask and SQLAlchemy: a session for each request, which the views commit."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, request
from flask import session as user_session
from sqlalchemy import ForeignKey, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session

from ..frameworks.sized_reads import sized_reads
from .database import Database
from .shop import Shop

RECIPE = Path(__file__).with_name("recipe_sqlalchemy.py")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)


class Line(Base):
    __tablename__ = "shop_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(
        ForeignKey(Order.id, deferrable=True, initially="DEFERRED")  # checked at COMMIT
    )


def add_views(app: Flask, session: scoped_session[Any]) -> None:
    app.secret_key = "for tests only"

    @app.post("/login")
    def login():
        user_session["user"] = request.args["user"]
        return {"user": user_session["user"]}, int(request.args.get("status", 200))

    @app.get("/me")
    def me():
        user = user_session.get("user")
        return {"user": user}, 200 if user else 401

    @app.get("/orders")
    def orders():
        return {"orders": list(session.scalars(select(Order.sku).order_by(Order.id)))}

    @app.post("/orders")
    def ordered():
        made = Order(sku=request.json["sku"])
        session.add(made)
        session.commit()
        return {"id": made.id, "sku": made.sku}, 201, {"Location": f"/orders/{made.id}"}

    @app.post("/orders/tolerant")
    def tolerant():
        try:
            return ordered()
        except IntegrityError:
            session.rollback()
            return {"duplicate": True}

    @app.get("/orders/<int:number>")
    def order(number: int):
        found = session.get(Order, number) or abort(404)
        return {"sku": found.sku}

    @app.post("/lines")
    def lines():
        made = Line(order_id=request.json["order"])
        session.add(made)
        session.commit()
        return {"id": made.id}, 201

    @app.post("/crash")
    def crash():
        session.add(Order(sku="crash"))
        session.commit()
        raise RuntimeError("crash")

    @app.get("/teapot")
    def teapot():
        abort(418)

    @app.get("/big")
    def big():
        return "x" * 10_000


def recipe(database: Database, source: str | None = None) -> types.ModuleType:
    """The recipe, as a module made anew for this database; `source` is there to change it."""
    spec = importlib.util.spec_from_file_location("recipe_sqlalchemy", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database.url)
        exec(compile(source or RECIPE.read_text(), str(RECIPE), "exec"), module.__dict__)
    return module


@contextmanager
def opened(
    database: Database, tables: bool = True, source: str | None = None
) -> Iterator[tuple[Shop, types.ModuleType]]:
    """The shop on `database`, and the recipe that it is made with."""
    module = recipe(database, source)
    if database.vendor == "sqlite":

        @event.listens_for(module.engine, "connect")
        def check_foreign_keys(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys = ON")

    try:
        if tables:
            Base.metadata.create_all(module.engine)
        add_views(module.app, module.session)
        # The application that the recipe has wrapped: tests wrap it in their own ways.
        yield Shop(sized_reads(module.app.wsgi_app.app), module.batch_transaction, database), module
    finally:
        module.engine.dispose()
