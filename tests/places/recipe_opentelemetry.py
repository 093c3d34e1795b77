import os

from django.core.wsgi import get_wsgi_application
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

from batchwsgi import BatchMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

DjangoInstrumentor().instrument()
application = OpenTelemetryMiddleware(BatchMiddleware(get_wsgi_application()))
