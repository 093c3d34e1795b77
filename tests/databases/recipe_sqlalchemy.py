import os
from contextlib import contextmanager
from contextvars import ContextVar

from flask import Flask
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session, scoped_session

from batchwsgi import BatchMiddleware

engine = create_engine(os.environ["DATABASE_URL"])
batch_connection = ContextVar("batch_connection", default=None)


def new_session():
    connection = batch_connection.get()
    if connection is None:
        return Session(engine)
    # In a batch: commit() releases a savepoint, rollback() goes back to one.
    return Session(connection, join_transaction_mode="create_savepoint")


session = scoped_session(new_session)


@contextmanager
def batch_transaction():
    with engine.begin() as connection:
        token = batch_connection.set(connection)
        try:
            yield
        finally:
            batch_connection.reset(token)


if engine.dialect.name == "sqlite":  # sqlite3 begins no transaction before a SAVEPOINT

    @event.listens_for(engine, "connect")
    def no_implicit_begin(connection, record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")


app = Flask(__name__)
app.teardown_appcontext(lambda error: session.remove())
app.wsgi_app = BatchMiddleware(app.wsgi_app, transaction=batch_transaction)
