import os

from django.core.wsgi import get_wsgi_application
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from batchwsgi import BatchMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))  # to try it
trace.set_tracer_provider(provider)

DjangoInstrumentor().instrument()
application = OpenTelemetryMiddleware(BatchMiddleware(get_wsgi_application()))
