from urllib.parse import quote

from werkzeug.exceptions import LengthRequired, NotFound
from werkzeug.middleware.http_proxy import ProxyMiddleware

from batchwsgi import BatchMiddleware

SERVICES = {  # `host` is None: a service sees the client's Host, and so its Location is right
    "/users/": {"target": "http://127.0.0.1:5001", "host": None},
    "/orders/": {"target": "http://127.0.0.1:5002", "host": None},
}
COOKIES = {"session"}  # that the services see
CLAIMS = ("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_X_REAL_IP")  # of who the client is

proxy = ProxyMiddleware(NotFound(), SERVICES, timeout=10)


def gateway(environ, start_response):
    if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
        return LengthRequired()(environ, start_response)
    sent = {key: value for key, value in environ.items() if not key.startswith(CLAIMS)}
    sent["HTTP_X_FORWARDED_FOR"] = environ["REMOTE_ADDR"]
    sent["HTTP_X_FORWARDED_PROTO"] = environ["wsgi.url_scheme"]
    sent["PATH_INFO"] = quote(environ["PATH_INFO"], "!$&'()*+,/:;=@", "latin-1")
    cookies = [pair.strip() for pair in sent.pop("HTTP_COOKIE", "").split(";")]
    if seen := [pair for pair in cookies if pair.partition("=")[0].strip() in COOKIES]:
        sent["HTTP_COOKIE"] = "; ".join(seen)
    return proxy(sent, start_response)


application = BatchMiddleware(gateway, threads=20)
