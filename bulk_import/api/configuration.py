"""Refuses imports while the site is not configured correctly, because their rows could be lost or counted wrongly."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from django.core.checks import ERROR
from django.core.signals import setting_changed
from django.utils.translation import gettext as _

from bulk_import.checks import check_configuration
from bulk_import.exceptions import NotConfigured

logger = logging.getLogger(__name__)


def check_is_configured() -> None:
    """Raise NotConfigured if `manage.py check` reports an error of this app. The checks run once per process."""
    if failing_checks():
        raise NotConfigured(_("Imports are not configured correctly on this site. Please tell an administrator."))


@cache
def failing_checks() -> tuple[str, ...]:
    """Return the IDs of the app's checks that report an error, and log them."""
    errors = [message for message in check_configuration() if message.level >= ERROR]
    for error in errors:
        logger.error("Imports are refused: %s (%s)", error.msg, error.id)
    return tuple(str(error.id) for error in errors)


def _forget(**_signal: Any) -> None:
    failing_checks.cache_clear()


setting_changed.connect(_forget)  # sent by tests only
