"""Parity, shown for real frameworks: a member's reply is the reply to the same request alone.

Each `*_app.py` builds the same small application with one framework; `parity` lists the requests
and what must come back, and compares.
"""

import warnings

with warnings.catch_warnings():
    # WebOb 1.8 imports cgi on Python 3.11 and 3.12, once for each process; as an error, that
    # DeprecationWarning would keep Pyramid from being imported at all.
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    import webob  # noqa: F401
