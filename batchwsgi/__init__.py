"""A batch endpoint for any WSGI application.

`BatchMiddleware` wraps an application and gives it one more URL. A client posts many requests to
it as one JSON document; each is sent to the wrapped application as a whole WSGI request of its
own, and all replies come back as one JSON document.

To follow one request to its reply, read `middleware` first. It has `dialects.native` read the batch
(bytes to `model.Batch`, checked by `rules`) and hands that to `run`, which takes members from
`schedule` in waves: for each one `wsgi` calls the application, and `dialects.native` writes its
entry. `executors` runs a wave in threads, or a group in a transaction. In the end the entries are
joined.
"""

from batchwsgi.middleware import BatchMiddleware
from batchwsgi.model import Request, Response
from batchwsgi.options import Limits
from batchwsgi.wsgi import subrequest

__all__ = ["BatchMiddleware", "Limits", "Request", "Response", "subrequest"]
__version__ = "0.1.0"
