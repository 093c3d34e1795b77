"""The shop with Django, for a server: the file of its database is in the environment.

`POST /batch` has the recipe, `POST /atomic` has bare `transaction.atomic`.
"""

from __future__ import annotations

import os

from django.conf import settings
from django.db import connections, transaction

from batchwsgi import BatchMiddleware

from ..frameworks import django_app  # noqa: F401 # has Django configured
from . import django_shop, recipe_django
from .database import Database

database = Database("sqlite", os.environ["DATABASE_FILE"])
connections.settings = connections.configure_settings({"default": database.settings()})
settings.ROOT_URLCONF = django_shop.__name__
application = BatchMiddleware(recipe_django.application, "/atomic", transaction=transaction.atomic)
