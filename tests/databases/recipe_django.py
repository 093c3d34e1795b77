import logging
from contextlib import contextmanager

from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connections, transaction

from batchwsgi import BatchMiddleware


@contextmanager
def batch_transaction(using="default"):
    close_old_connections()  # as Django does before each request
    connection = connections[using]  # this thread's own; others' are closed as ever
    connection.close_if_unusable_or_obsolete = lambda: None  # after each member, else
    committed = []
    try:
        with transaction.atomic(using, durable=True):
            transaction.on_commit(lambda: committed.append(True), using)
            yield
            connection.savepoint()  # raises where Django would roll back and not say so
    except Exception:
        if not committed:
            raise
        logging.exception("on_commit failed, after the batch was committed")
    finally:
        del connection.close_if_unusable_or_obsolete
        close_old_connections()  # as Django does after each request


application = BatchMiddleware(get_wsgi_application(), transaction=batch_transaction)
