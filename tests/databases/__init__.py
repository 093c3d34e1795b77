"""Rollback and threads, with Django and with SQLAlchemy under Flask, on SQLite and PostgreSQL.

`shop` is what all tests see of the application; `django_shop` and `flask_shop` are the same
application twice. `recipe_django` and `recipe_sqlalchemy` are the README's snippets, verbatim.
"""
