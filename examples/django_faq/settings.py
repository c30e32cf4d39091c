"""Settings of the example: a file of SQLite, one app, and where Redis and Qdrant are."""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for the example")
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
INSTALLED_APPS = ["django_faq"]
ROOT_URLCONF = "django_faq.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("FAQ_DATABASE", "faq.sqlite3")}}

#: Options of `gristmill.Client`; what is not here comes from `GRISTMILL_*` variables, such as GRISTMILL_REDIS_URL.
GRISTMILL = {"redis_timeout_s": 2.0}
GRISTMILL_COLLECTION = "faq"
