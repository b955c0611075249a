"""The environment variables are complete and valid, or the error says what to set."""

from __future__ import annotations

import pytest

from bulk_import_wire.contract import WORKER_API_PATH
from lambda_worker.config import REQUIRED, SECRETS, Config, ConfigurationError

SECRET = "secret-never-to-be-shown"
COMPLETE = {
    "BULK_IMPORT_BASE_URL": "https://shop.example",
    "BULK_IMPORT_WORKER_SECRET": SECRET,
    "BULK_IMPORT_PAYLOADS_BUCKET": "payloads",
    "BULK_IMPORT_FAILURES_BUCKET": "failures",
    "BULK_IMPORT_QUEUE_URL": "https://sqs.example/1/chunks",
}


def test_a_complete_environment_is_read() -> None:
    config = Config.from_environment(COMPLETE)

    assert config == Config(
        "https://shop.example", SECRET, "payloads", "failures", "https://sqs.example/1/chunks", WORKER_API_PATH
    )


def test_the_secret_may_be_stored_in_secrets_manager() -> None:
    environ = {**COMPLETE, "BULK_IMPORT_WORKER_SECRET": "", "BULK_IMPORT_WORKER_SECRET_ID": "arn:secret"}

    config = Config.from_environment(environ)

    assert (config.worker_secret, config.worker_secret_id) == ("", "arn:secret")


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("name", [*REQUIRED, "BULK_IMPORT_WORKER_SECRET"])
def test_a_missing_or_empty_variable_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in {**COMPLETE, name: value}.items() if text is not None}

    with pytest.raises(ConfigurationError, match=name):
        Config.from_environment(environ)


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Config.from_environment({})

    assert all(name in str(caught.value) for name in (*REQUIRED, *SECRETS))


@pytest.mark.parametrize(
    "url", ["shop.example", "ftp://shop.example", "https://", "/shop", "http://[::1", "http://a:b"]
)
def test_a_base_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="BULK_IMPORT_BASE_URL"):
        Config.from_environment({**COMPLETE, "BULK_IMPORT_BASE_URL": url})


def test_a_slash_at_the_end_of_the_base_url_does_not_matter() -> None:
    assert Config.from_environment({**COMPLETE, "BULK_IMPORT_BASE_URL": "http://a/b/"}).base_url == "http://a/b"


@pytest.mark.parametrize("path", ["/internal/imports", "/internal/imports/"])
def test_the_worker_api_path_may_have_a_slash_at_the_end(path: str) -> None:
    environ = {**COMPLETE, "BULK_IMPORT_WORKER_API_PATH": path}

    assert Config.from_environment(environ).worker_api_path == "/internal/imports/"


def test_the_secret_is_never_shown() -> None:
    config = Config.from_environment(COMPLETE)
    with pytest.raises(ConfigurationError) as caught:
        Config.from_environment({"BULK_IMPORT_WORKER_SECRET": SECRET})

    assert SECRET not in f"{config!r} {config} {[config]} {caught.value!r}"
