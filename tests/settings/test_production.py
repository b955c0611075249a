"""The production settings: they require a complete environment and refuse development secrets."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from settings import known_secrets

PROJECT = Path(__file__).resolve().parents[2]
COMPLETE = {
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "shop.test, www.shop.test",
    "DATABASE_URL": "postgres://shop:secret@db.shop.test/shop",
    "BULK_IMPORT_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/bulk-import",
    "BULK_IMPORT_PAYLOADS_BUCKET": "payloads",
    "BULK_IMPORT_FAILURES_BUCKET": "failures",
    "BULK_IMPORT_WORKER_SECRETS": f"{secrets.token_urlsafe(32)},{secrets.token_urlsafe(32)}",
    "BULK_IMPORT_TOKEN_KEYS": secrets.token_urlsafe(32),
    "BULK_IMPORT_PUBLIC_URL": "https://shop.test",
    "DEFAULT_FROM_EMAIL": "imports@shop.test",
    "EMAIL_HOST": "mail.shop.test",
}


def manage(
    *arguments: str, settings: str = "settings.production", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run manage.py with these settings and only this environment."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = {"DJANGO_SETTINGS_MODULE": settings, "AWS_DEFAULT_REGION": "eu-west-1"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**inherited, **ours, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_complete_environment_passes_djangos_deployment_checks() -> None:
    checked = manage("check", "--deploy", "--fail-level", "WARNING", **COMPLETE)

    assert checked.returncode == 0, checked.stderr


def test_each_log_line_is_json() -> None:
    line = "import logging; logging.getLogger('bulk_import.outbox.relay').info('sent %d', 3)"

    logged = json.loads(manage("shell", "-v", "0", "-c", line, **COMPLETE).stderr)

    assert (logged["logger"], logged["level"], logged["message"]) == ("bulk_import.outbox.relay", "INFO", "sent 3")


def test_a_log_line_has_the_fields_of_its_context() -> None:
    line = "import logging; from bulk_import_wire import logs\nwith logs.log_context(epoch=3): logging.error('no')"

    assert json.loads(manage("shell", "-v", "0", "-c", line, **COMPLETE).stderr)["epoch"] == 3


def test_the_error_lists_all_missing_variables() -> None:
    refused = manage("check")

    assert refused.returncode != 0
    assert [name for name in COMPLETE if f"- {name} is missing: " not in refused.stderr] == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SECRET_KEY", known_secrets.SECRET_KEY, "SECRET_KEY is a public secret"),
        ("SECRET_KEY", "django-insecure-" + "x" * 50, "SECRET_KEY is a public secret"),
        ("SECRET_KEY", "x7" * 20, "SECRET_KEY is shorter than 50 characters"),
        ("SECRET_KEY_FALLBACKS", known_secrets.SECRET_KEY, "SECRET_KEY_FALLBACKS is a public secret"),
        (
            "BULK_IMPORT_WORKER_SECRETS",
            f"{COMPLETE['BULK_IMPORT_WORKER_SECRETS']},{known_secrets.WORKER_SECRET}",
            "BULK_IMPORT_WORKER_SECRETS is a public secret",
        ),
        ("BULK_IMPORT_TOKEN_KEYS", known_secrets.TOKEN_KEY, "BULK_IMPORT_TOKEN_KEYS is a public secret"),
        ("BULK_IMPORT_WORKER_SECRETS", "q8Zk2", "BULK_IMPORT_WORKER_SECRETS is shorter than 32 characters"),
        (
            "BULK_IMPORT_WEBHOOK_SECRETS",
            known_secrets.WEBHOOK_SECRET,
            "BULK_IMPORT_WEBHOOK_SECRETS is a public secret",
        ),
        ("ALLOWED_HOSTS", "*", "ALLOWED_HOSTS must list host names"),
        ("BULK_IMPORT_PUBLIC_URL", "http://shop.test", "BULK_IMPORT_PUBLIC_URL must start with https://"),
    ],
)
def test_unsafe_values_are_refused_and_secrets_are_not_printed(name: str, value: str, reason: str) -> None:
    refused = manage("check", **{**COMPLETE, name: value})

    assert refused.returncode != 0
    assert reason in refused.stderr
    assert not name.endswith(("SECRETS", "KEY", "FALLBACKS")) or value not in refused.stderr


@pytest.mark.parametrize(
    "remote",
    [
        {"AWS_ENDPOINT_URL": "https://sqs.eu-west-1.amazonaws.com"},
        {"DATABASE_URL": "postgres://shop:secret@database.example/shop"},
    ],
    ids=["S3 and SQS", "the database"],
)
def test_the_local_settings_refuse_remote_services(remote: dict[str, str]) -> None:
    (name,) = remote

    refused = manage("check", settings="settings.local", **remote)

    assert refused.returncode != 0
    assert name in refused.stderr.splitlines()[-1]


PREPARE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("createcachetable", verbosity=0)
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ana", "", "secret")
"""
"""In one process, because loading Django takes longer than each of these steps."""

UPLOAD_40_TIMES = """
from django.test import Client
client = Client(headers={"X-Forwarded-Proto": "https", "Host": "shop.test"})
from django.contrib.auth import get_user_model
client.force_login(get_user_model().objects.get())
path = "/products/bulk?dry_run=true"
answers = [client.post(path, [{}], content_type="application/json", secure=True) for _ in range(40)]
print(sum(answer.status_code != 429 for answer in answers))
"""


def test_several_processes_count_the_requests_of_a_user_together(tmp_path: Path) -> None:
    environment = {**COMPLETE, "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}"}
    prepared = manage("shell", "-v", "0", "-c", PREPARE, **environment)
    assert prepared.returncode == 0, prepared.stderr

    shells = [manage("shell", "-v", "0", "-c", UPLOAD_40_TIMES, **environment) for _process in range(2)]

    assert [shell.stdout for shell in shells] == ["40\n", "20\n"], shells[0].stderr
