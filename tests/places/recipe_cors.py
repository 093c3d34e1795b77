from flask import Flask
from wsgicors import CORS

from batchwsgi import BatchMiddleware

app = Flask(__name__)


@app.get("/hello")
def hello():
    return {"hello": "world"}


application = CORS(
    BatchMiddleware(app),
    origin="https://app.example",  # several: with spaces between them
    methods="GET, POST, PUT, PATCH, DELETE",
    headers="Content-Type, Authorization",
    credentials="true",
    maxage="600",
)
