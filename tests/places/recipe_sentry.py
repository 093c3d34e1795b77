import sentry_sdk
from flask import Flask

from batchwsgi import BatchMiddleware

sentry_sdk.init()  # it reads SENTRY_DSN

app = Flask(__name__)


@app.get("/orders/<int:number>")
def order(number):
    return {"share": 1 / number}


application = BatchMiddleware(app)
