"""What the servers of the benchmarks serve: Flask views, with the batch endpoint."""

from batchwsgi import BatchMiddleware, Limits

from . import apps

application = BatchMiddleware(apps.flask_app(), limits=Limits(max_requests=apps.MEMBERS))
