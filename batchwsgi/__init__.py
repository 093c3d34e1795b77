"""A batch endpoint for any WSGI application.

`BatchMiddleware` wraps an application and gives it one more URL. A client posts many requests to
it as one JSON document; each is sent to the wrapped application as a whole WSGI request of its
own, and all replies come back as one JSON document.

To follow one request to its reply, read `middleware` first. It has a dialect read the batch (bytes
to `model.Batch`, checked by `rules`; the usual dialect is `dialects.native`) and hands that to
`run`, which is the order of events. `run` takes members from `schedule` in waves, and for each one
`wsgi` calls the application. `executors` runs a wave in threads, or a group in a transaction.
`entries` has the dialect's writer write what became of each member, within the limits; in the end
the writer joins the entries.
"""

from batchwsgi.middleware import BatchMiddleware
from batchwsgi.model import Request, Response
from batchwsgi.options import Limits
from batchwsgi.wsgi import subrequest

__all__ = ["BatchMiddleware", "Limits", "Request", "Response", "subrequest"]
__version__ = "0.1.0"
