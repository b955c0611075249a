"""`manage.py bulk_import_init URL_NAME`: print what a site needs to import into the endpoint with this URL name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from bulk_import.management.found_endpoint import find_endpoint
from bulk_import.management.setup_text import environment_text, settings_text, urls_text

if TYPE_CHECKING:
    from argparse import ArgumentParser

ENVIRONMENT_FILE = "bulk_import.env"

NEXT_STEPS = """\
# Next:
#   . ./bulk_import.env && python manage.py migrate
#   python manage.py bulk_import_local       in a second terminal: S3, SQS and the workers, on this machine
#   python manage.py runserver               in a third terminal, after . ./bulk_import.env
#   python manage.py bulk_import_doctor --base-url {base_url} --user NAME
"""


class Command(BaseCommand):
    help = (
        "Print the settings, the URL lines and the environment file with which users can import into an endpoint. "
        "Edits no file, and leaves out what is there already."
    )
    requires_system_checks = []  # the site is not configured yet

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url_name", help="URL name of the endpoint that creates one object, such as product-list")
        parser.add_argument("--target", default="", help="name of the target (default: the last part of the path)")
        parser.add_argument("--serializer", default="", help="dotted path of the serializer, if the view does not tell")
        parser.add_argument(
            "--kwargs",
            nargs="+",
            default=[],
            metavar="NAME=VALUE",
            help="arguments of the endpoint's URL, such as version=v1",
        )
        parser.add_argument(
            "--base-url", default="http://127.0.0.1:8000", help="where the site runs (default: %(default)s)"
        )
        parser.add_argument("--part", choices=["settings", "urls", "environment"], help="print only this part")

    def handle(self, *, url_name: str, base_url: str, **options: Any) -> None:
        if not all("=" in argument for argument in options["kwargs"]):
            raise CommandError("Write --kwargs NAME=VALUE.")
        kwargs = dict(argument.split("=", 1) for argument in options["kwargs"])
        found = find_endpoint(url_name, kwargs, options["target"], options["serializer"])
        parts = {
            "settings": (f"{settings.SETTINGS_MODULE or 'your settings'}, at the end", settings_text(found)),
            "urls": (f"{settings.ROOT_URLCONF}, at the end", urls_text(found)),
            "environment": (f"{ENVIRONMENT_FILE}: for every terminal; do not commit it", environment_text(base_url)),
        }
        if options["part"]:
            self.stdout.write(parts[options["part"]][1], ending="")
            return
        for name, (place, text) in parts.items():
            self.stdout.write(f"# {place}\n\n{text}" if text else f"# {name}: nothing to add\n")
        self.stdout.write(NEXT_STEPS.format(base_url=base_url))
