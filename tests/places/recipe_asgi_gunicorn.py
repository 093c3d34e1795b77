def post_worker_init(worker):
    from a2wsgi import ASGIMiddleware

    from batchwsgi import BatchMiddleware

    worker.wsgi = BatchMiddleware(ASGIMiddleware(worker.wsgi), threads=20)
