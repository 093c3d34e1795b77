"""A site with Django's own users, permissions and admin, in a process of its own.

    python -m tests.faults.django_site     makes the database and its users

The environment variable `DATABASE` names the SQLite file. `RECIPE=authorize` adds the hook of
`recipes` to the endpoint, `RECIPE=middleware` the one to Django's middleware.
"""

from __future__ import annotations

import os

import django
from django.conf import settings

RECIPE = os.environ.get("RECIPE")

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        *(["tests.faults.recipes.staff_only_in_batches"] if RECIPE == "middleware" else []),
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            "CONN_MAX_AGE": None,
        }
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    STATIC_URL="/static/",
    USE_TZ=True,
)
django.setup()

from django.contrib import admin  # noqa: E402 # models need a configured Django
from django.contrib.admin.views.decorators import staff_member_required  # noqa: E402
from django.contrib.auth import authenticate, login  # noqa: E402
from django.contrib.auth.decorators import login_required, permission_required  # noqa: E402
from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views import View  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from batchwsgi import BatchMiddleware  # noqa: E402

from .recipes import staff_only  # noqa: E402


@csrf_exempt
def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST["name"], password="secret")
    login(request, user)
    return JsonResponse({"signed in": user.username})


def whoami(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.username, "users": User.objects.count()})


def crash(request: HttpRequest) -> HttpResponse:
    raise LookupError(User.objects.count())


@login_required
def own(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.username})


@permission_required("auth.view_user", raise_exception=True)
def report(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.username})


@staff_member_required
def staff(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.username})


class Orders(LoginRequiredMixin, View):
    raise_exception = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"user": request.user.username})


def open_page(request: HttpRequest) -> HttpResponse:
    """A page under /admin/ whose author forgot every check."""
    return JsonResponse({"secret": request.user.username})


urlpatterns = [
    path("sign-in", sign_in),
    path("whoami", whoami),
    path("crash", crash),
    path("own", own),
    path("report", report),
    path("staff", staff),
    path("orders", Orders.as_view()),
    path("admin/forgotten", open_page),
    path("admin/", admin.site.urls),
]

application = BatchMiddleware(
    get_wsgi_application(), authorize=staff_only if RECIPE == "authorize" else None
)


def make_database() -> None:
    """The tables, ada (staff, may see users) and bob."""
    call_command("migrate", verbosity=0)
    ada = User.objects.create_user("ada", password="secret", is_staff=True)
    ada.user_permissions.add(Permission.objects.get(codename="view_user"))
    User.objects.create_user("bob", password="secret")


if __name__ == "__main__":
    make_database()
