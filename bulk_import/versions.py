"""Refuses versions of Django and DRF that this package does not support.

The package's metadata names no versions of these two, because an installation must not change the versions of a site.
So a site with an older one gets this error, and decides itself when to upgrade.
"""

from __future__ import annotations

import django
import rest_framework
from django.core.exceptions import ImproperlyConfigured

OLDEST_DJANGO = (5, 2)
OLDEST_DRF = (3, 17, 2)
TESTED = "Django 5.2 to 6.1, with Django REST framework 3.17.2 to 3.18"


def check_versions(
    django_version: tuple[int | str, ...] = django.VERSION, drf_version: str = rest_framework.VERSION
) -> None:
    """Raise ImproperlyConfigured if one of the two is too old."""
    drf = tuple(int(part) for part in drf_version.split(".")[:3] if part.isdecimal())
    if django_version[:2] < OLDEST_DJANGO or drf < OLDEST_DRF:
        found = f"Django {'.'.join(map(str, django_version[:3]))} and Django REST framework {drf_version}"
        raise ImproperlyConfigured(
            f"bulk_import is tested with {TESTED}, and cannot run with {found}. Upgrade them, for example with "
            "pip install --upgrade 'django~=5.2.0' djangorestframework"
        )
