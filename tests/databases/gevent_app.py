"""An application whose members wait, for a server that patches what they wait with.

    GET /sleep    sleeps a little; says how many did so at once, at most
    GET /meet     waits until as many are here as run at once, the pool's four and the caller
    GET /hold     waits until somebody is let go
    GET /release  waits until as many hold as can at once, and lets them go

This module may be imported before gevent patches `threading`: what it makes is made at first use.
"""

from __future__ import annotations

import json
import threading
import time
from functools import cache
from types import SimpleNamespace

from batchwsgi import BatchMiddleware

from ..support import Environ

THREADS = 4
AT_ONCE = THREADS + 1
WAIT = 15
"""Seconds. That is more than any wait takes, and less than the test's client waits."""

running = {"now": 0, "most": 0}


@cache
def meeting() -> SimpleNamespace:
    return SimpleNamespace(
        all_here=threading.Barrier(AT_ONCE),
        all_hold=threading.Barrier(AT_ONCE + 1),
        released=threading.Event(),
    )


def sleep():
    running["now"] += 1
    running["most"] = max(running.values())
    time.sleep(0.05)
    running["now"] -= 1
    return running["most"]


def meet():
    meeting().all_here.wait(WAIT)
    return True


def hold():
    meeting().all_hold.wait(WAIT)
    return meeting().released.wait(WAIT)


def release():
    meeting().all_hold.wait(WAIT)
    meeting().released.set()
    return True


VIEWS = {"/sleep": sleep, "/meet": meet, "/hold": hold, "/release": release}


def app(environ: Environ, start_response):
    answer = json.dumps(VIEWS[environ["PATH_INFO"]]()).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer]


application = BatchMiddleware(app, threads=THREADS)
