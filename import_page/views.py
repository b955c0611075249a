"""The import page and its sign-in page. The page itself is built in the browser by static/import_page/main.js."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.shortcuts import resolve_url
from django.template.defaultfilters import filesizeformat
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.translation import get_language
from django.views.generic import TemplateView
from django.views.generic.base import ContextMixin, View

from import_page.targets import PageTarget, page_target

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

TEXTS = Path(__file__).with_name("texts")
FALLBACK = "en"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Value of the Content-Security-Policy header of both pages.

Imported files may contain malicious text. If such text became markup by mistake, the browser would neither run
scripts in it nor send data to other servers. The views set this header, and not a middleware, because the admin and the
browsable API need other policies.
"""


@cache
def read_texts(language: str) -> dict[str, Any]:
    """Return the texts of the pages in this language, or in English if there is no translation."""
    file = TEXTS / f"{language}.json"
    texts: dict[str, Any] = json.loads((file if file.exists() else TEXTS / f"{FALLBACK}.json").read_text("utf-8"))
    return texts


class StrictPage(ContextMixin, View):
    """Base class: a page in the user's language, with the strict Content-Security-Policy."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(texts=read_texts(get_language() or FALLBACK), **kwargs)


class ImportPage(LoginRequiredMixin, StrictPage, TemplateView):
    """The page of one target: choose a file, check it, import it, follow the import and correct rows.

    The URL configuration names the `target`. It may also name an `example`, a static file that users can download.
    """

    template_name = "import_page/import.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        target = page_target(kwargs["target"])
        context = super().get_context_data(**kwargs)
        texts = {key: fill_in(text, target) for key, text in context["texts"].items()}
        return {
            **context,
            "target": target,
            "texts": texts,
            "example": kwargs.get("example"),
            "sign_in": resolve_url(settings.LOGIN_URL),
            "admin_url": admin_url(self.request.user, target),
        }


def admin_url(user: Any, target: PageTarget) -> str:
    """Return the URL of the list of all users' imports of this target; "" if the user may not see it."""
    if not (user.is_staff and user.has_perm("bulk_import.view_importjob")):
        return ""
    try:
        return f"{reverse('admin:bulk_import_importjob_changelist')}?{urlencode({'target': target.name})}"
    except NoReverseMatch:  # the site has no admin
        return ""


def fill_in(text: Any, target: PageTarget) -> Any:
    """Return a text, or its plural forms, with what the target's rows describe and the size limit of its files."""
    if isinstance(text, dict):
        return {form: fill_in(one, target) for form, one in text.items()}
    return text.replace("{objects}", target.objects).replace("{max_size}", filesizeformat(target.max_bytes))


class SignIn(StrictPage, LoginView):
    """The sign-in page. Users who are not staff need it, because they cannot sign in at the admin."""

    template_name = "import_page/sign_in.html"
    redirect_authenticated_user = True
