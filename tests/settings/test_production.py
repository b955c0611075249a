"""The settings of a deployment, each time in a `manage.py` of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from settings import known_secrets

PROJECT = Path(__file__).parents[2]
CHECK = ("check", "--deploy", "--fail-level", "WARNING")
COMPLETE = {
    "SECRET_KEY": "q7w-" * 15 + "0123456789",
    "ALLOWED_HOSTS": "shop.example, www.shop.example",
    "PUBLIC_URL": "https://shop.example",
    "DATABASE_URL": "postgres://shop:secret@database.example/shop",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "BULK_IMPORT_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/bulk-import",
    "BULK_IMPORT_PAYLOADS_BUCKET": "payloads",
    "BULK_IMPORT_FAILURES_BUCKET": "failures",
    "BULK_IMPORT_WORKER_SECRETS": "a-worker-secret-of-this-deployment",
    "EMAIL_HOST": "mail.example",
    "DEFAULT_FROM_EMAIL": "imports@shop.example",
}


def manage(settings: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with this environment, and of ours with nothing that a setting is read from."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=PROJECT,
        env={**inherited, "DJANGO_SETTINGS_MODULE": settings, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def refusal(**changed: str) -> str:
    """What `manage.py check` says, which must not start, when something is changed in a complete environment."""
    run = manage("settings.production", "check", **(COMPLETE | changed))
    assert run.returncode != 0
    name, _, message = run.stderr.splitlines()[-1].partition(": ")
    assert name == "django.core.exceptions.ImproperlyConfigured"
    return message


def test_a_complete_environment_passes_all_checks_of_a_deployment() -> None:
    run = manage("settings.production", *CHECK, **COMPLETE)

    assert run.returncode == 0, run.stderr
    assert run.stdout == "System check identified no issues (0 silenced).\n"


@pytest.mark.parametrize("name", COMPLETE)
def test_nothing_starts_without_a_variable_and_the_error_names_it(name: str) -> None:
    message = refusal(**{name: ""})

    assert message.startswith(f"Set {name} (")
    assert not [other for other in COMPLETE if other != name and f"{other} (" in message]


def test_all_that_is_missing_is_named_at_once() -> None:
    run = manage("settings.production", "check")

    assert all(f"{name} (" in run.stderr for name in COMPLETE)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("SECRET_KEY", known_secrets.SECRET_KEY),
        ("SECRET_KEY", "django-insecure-" + "x7" * 30),
        ("SECRET_KEY", "too-short"),
        ("SECRET_KEY_FALLBACKS", known_secrets.SECRET_KEY),
        ("BULK_IMPORT_WORKER_SECRETS", known_secrets.WORKER_SECRET),
        ("BULK_IMPORT_WORKER_SECRETS", f"{COMPLETE['BULK_IMPORT_WORKER_SECRETS']},{known_secrets.WORKER_SECRET}"),
        ("BULK_IMPORT_WORKER_SECRETS", "too-short"),
        ("BULK_IMPORT_WORKER_SECRETS", ","),
        ("BULK_IMPORT_WEBHOOK_SECRETS", known_secrets.WEBHOOK_SECRET),
    ],
)
def test_a_secret_that_others_know_or_guess_is_refused_and_not_repeated(name: str, secret: str) -> None:
    message = refusal(**{name: secret})

    assert message.startswith(name)
    assert len(secret) == 1 or secret not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "*"),
        ("PUBLIC_URL", "http://shop.example"),
        ("DATABASE_URL", "sqlite:///shop.sqlite3"),
    ],
)
def test_what_is_good_for_development_only_is_refused(name: str, value: str) -> None:
    assert refusal(**{name: value}).startswith(name)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"AWS_ENDPOINT_URL": "https://sqs.eu-west-1.amazonaws.com"},
        {"DATABASE_URL": "postgres://shop:secret@database.example/shop"},
    ],
    ids=["S3 and SQS", "the database"],
)
def test_the_local_settings_do_not_start_with_anything_of_a_deployment(elsewhere: dict[str, str]) -> None:
    (name,) = elsewhere

    run = manage("settings.local", "check", **elsewhere)

    assert run.returncode != 0
    assert name in run.stderr.splitlines()[-1]


def test_the_checks_of_a_deployment_refuse_the_local_settings() -> None:
    assert manage("settings.local", *CHECK).returncode != 0


def test_a_server_has_no_settings_that_nobody_chose() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", "import settings.wsgi"]

    run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)

    assert "Set DJANGO_SETTINGS_MODULE" in run.stderr
