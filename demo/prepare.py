"""Fills the local database with tables, the shop's categories and two users with public passwords.

Run it as `python -m demo.prepare` with settings.local. It refuses any other settings.
"""

import os

import django
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

LOCAL_SETTINGS = "settings.local"


def create_users() -> None:
    """Create `admin`, a superuser, and `demo`, who may view, create, change and delete products."""
    users = get_user_model().objects
    users.create_superuser("admin", "admin@localhost", "admin")
    demo = users.create_user("demo", "demo@localhost", "demo")
    codenames = ["add_product", "change_product", "delete_product", "view_product"]
    permissions = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="products")
    demo.user_permissions.set(permissions.filter(codename__in=codenames))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", LOCAL_SETTINGS)
    if settings.SETTINGS_MODULE != LOCAL_SETTINGS:
        raise SystemExit(f"This command works with {LOCAL_SETTINGS} only, not with {settings.SETTINGS_MODULE}.")
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("seed_shop", verbosity=0)
    create_users()
