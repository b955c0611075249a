"""The path of the endpoint starts with a language."""

from django.conf.urls.i18n import i18n_patterns
from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "LANGUAGE_CODE": "de",
    "LANGUAGES": [("de", "Deutsch"), ("en", "English")],
    "MIDDLEWARE": ["django.middleware.locale.LocaleMiddleware"],
}
CASE = {"url_name": "items", "bulk_path": "/items/bulk"}

urlpatterns = i18n_patterns(path("items/", create_or_list, name="items"))
