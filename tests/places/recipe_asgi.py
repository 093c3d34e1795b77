from a2wsgi import ASGIMiddleware
from fastapi import FastAPI

from batchwsgi import BatchMiddleware

app = FastAPI()


@app.get("/hello/{name}")
async def hello(name: str):
    return {"hello": name}


application = BatchMiddleware(ASGIMiddleware(app), threads=20)
