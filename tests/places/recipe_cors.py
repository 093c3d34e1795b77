from flask import Flask
from wsgicors import CORS

from batchwsgi import BatchMiddleware

app = Flask(__name__)


@app.get("/hello")
def hello():
    return {"hello": "world"}


app.wsgi_app = CORS(
    BatchMiddleware(app.wsgi_app),
    origin="https://app.example",  # several: separated by spaces
    methods="GET, POST, PUT, PATCH, DELETE",
    headers="Content-Type, Authorization",
    credentials="true",
    maxage="600",
)
