"""Django settings. Every knob is an environment variable, read once, here."""

import sys
from datetime import timedelta
from pathlib import Path

from llmserver import data_dir, database, env, peppers, sidebar

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = data_dir.prepare(env.path("LLMSERVER_DATA_DIR", BASE_DIR / "var"))
MODELS_FILE = env.path("LLMSERVER_MODELS_FILE", BASE_DIR / "models.yaml")
RUN_DIR = DATA_DIR / "run"

DEBUG = env.flag("LLMSERVER_DEBUG", default=False)
SECRET_KEY = env.secret("LLMSERVER_SECRET_KEY") or data_dir.kept_secret(DATA_DIR, "secret_key")
ALLOWED_HOSTS = env.words("LLMSERVER_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.words("LLMSERVER_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    # For `runserver` alone: its Twisted takes as long to import as everything else together.
    *(["daphne"] if sys.argv[1:2] == ["runserver"] else []),
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "models_registry",
    "gateway",
    "llmserver",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "llmserver.urls"
ASGI_APPLICATION = "llmserver.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": database.from_url(
        env.secret("DATABASE_URL") or "", default_path=DATA_DIR / "db.sqlite3"
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.secret("REDIS_URL")
# Redis answers within 100 ms or counts as gone: a slow store must not hold up a request.
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1},
        "KEY_PREFIX": "llmserver",
    }
    if REDIS_URL
    else {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        # Counters of limits live here: a small cache would forget them under many keys.
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
# A new key is shown in a message: it must not be kept in the session table.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LLM Server",
    "DESCRIPTION": "Self-hosted LLM platform with an OpenAI-compatible API.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1/",
    # The first version that knows the null type, which optional fields have.
    "OAS_VERSION": "3.1.1",
    "ENUM_NAME_OVERRIDES": {
        "FinishReasonEnum": ["stop", "length", "content_filter", "tool_calls"],
    },
    "APPEND_COMPONENTS": {"securitySchemes": {"ApiKey": {"type": "http", "scheme": "bearer"}}},
}
LOGIN_REDIRECT_URL = "/admin/"
UNFOLD = {
    "SITE_TITLE": "LLM Server",
    "SITE_HEADER": "LLM Server",
    "SITE_SYMBOL": "neurology",
    "SIDEBAR": {"show_search": True, "navigation": sidebar.NAVIGATION},
}

# Lets metrics of several gateway processes be added up; see manage.py.
PROMETHEUS_EXPORT_MIGRATIONS = False

# Peppers are numbered so that they can be rotated: a key's digest names the one it was made with.
API_KEY_PEPPERS = peppers.read(DATA_DIR)
API_KEY_CURRENT_PEPPER = peppers.current(API_KEY_PEPPERS)
# How often a gateway asks whether keys or teams have changed.
API_KEY_POLL_S = env.number("LLMSERVER_KEY_POLL_S", 0.25, minimum=0.05)
# How long a verdict on a key holds: one of refusal, one while the process hears of every change,
# and how much longer that one holds while the database is away.
API_KEY_CACHE_TTL_S = env.number("LLMSERVER_KEY_CACHE_TTL_S", 1.0)
API_KEY_RECHECK_S = env.number("LLMSERVER_KEY_RECHECK_S", 10.0)
API_KEY_GRACE_S = env.number("LLMSERVER_KEY_GRACE_S", 60.0)
# Whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES = env.networks("LLMSERVER_TRUSTED_PROXIES")

MAX_BODY_BYTES = env.integer("LLMSERVER_MAX_BODY_BYTES", 2 * 1024 * 1024, minimum=1024)
BODY_TIMEOUT_S = env.number("LLMSERVER_BODY_TIMEOUT_S", 30.0, minimum=0.1)
SSE_KEEPALIVE_S = env.number("LLMSERVER_SSE_KEEPALIVE_S", 15.0, minimum=0.1)
WEBSOCKET_AUTH_TIMEOUT_S = env.number("LLMSERVER_WEBSOCKET_AUTH_TIMEOUT_S", 10.0, minimum=0.1)
WEBSOCKET_MAX_RUNNING = env.integer("LLMSERVER_WEBSOCKET_MAX_RUNNING", 32, minimum=1)
CATALOG_POLL_S = env.number("LLMSERVER_CATALOG_POLL_S", 0.5, minimum=0.05)
# How long a request waits for a model that is being loaded, before it is told to come again.
LOAD_WAIT_S = env.number("LLMSERVER_LOAD_WAIT_S", 30.0)
# What local models may take together, in bytes or as a share of what is available at the start.
MEMORY_BUDGET = env.memory("LLMSERVER_MEMORY_BUDGET", "80%")
# A local model that computes one step for longer is started anew; 0: never.
STEP_LIMIT_S = env.number("LLMSERVER_STEP_LIMIT_S", 120.0)
# A local model whose loading makes no progress for longer is started anew; 0: never.
LOAD_LIMIT_S = env.number("LLMSERVER_LOAD_LIMIT_S", 600.0)
# Runners read it from their environment, which is this one's; a wrong value is refused here.
KERNELS = env.choice("LLMSERVER_KERNELS", ("auto", "off", "avx512", "avx2", "portable"), "auto")
DRAIN_TIMEOUT_S = env.number("LLMSERVER_DRAIN_TIMEOUT_S", 30.0)

CACHE_TTL = timedelta(seconds=env.integer("LLMSERVER_CACHE_TTL_S", 24 * 3600, minimum=1))
CACHE_MAX_ENTRIES = env.integer("LLMSERVER_CACHE_MAX_ENTRIES", 10_000, minimum=1)
DEFAULT_TOKEN_RESERVE = env.integer("LLMSERVER_DEFAULT_TOKEN_RESERVE", 1024, minimum=1)
LOG_RETENTION = timedelta(days=env.integer("LLMSERVER_LOG_RETENTION_DAYS", 90, minimum=1))
CURRENCY = env.text("LLMSERVER_CURRENCY", "USD")

LOG_FORMAT = env.choice("LLMSERVER_LOG_FORMAT", ("console", "json"), "console")
LOG_LEVEL = env.choice("LLMSERVER_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "redact": {"()": "llmserver.logging.RedactKeys"},
        "drop_not_ready": {"()": "llmserver.logging.DropNotReady"},
    },
    "formatters": {
        "console": {"()": "llmserver.logging.ConsoleFormatter"},
        "json": {"()": "llmserver.logging.JsonFormatter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["redact"],
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "django.request": {"level": "ERROR", "filters": ["drop_not_ready"]},
        "uvicorn.error": {"level": "WARNING"},
    },
}
