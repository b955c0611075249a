"""The page and the sign-in that it needs. All that happens on the page happens in the browser."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.utils.translation import get_language
from django.views.generic import TemplateView
from django.views.generic.base import ContextMixin, View

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

TEXTS = Path(__file__).with_name("texts")
FALLBACK = "en"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Rows come from strangers: even if one got into the page as markup, nothing of it would run or call home.

Set here and not in middleware, because the admin and the API's own page need other policies.
"""


@cache
def read_texts(language: str) -> dict[str, Any]:
    """The page's texts in a language, or else in English: plain JSON, for the template and for the script."""
    file = TEXTS / f"{language}.json"
    texts: dict[str, Any] = json.loads((file if file.exists() else TEXTS / f"{FALLBACK}.json").read_text("utf-8"))
    return texts


class StrictPage(ContextMixin, View):
    """Base: a page in the user's language, under the strict policy."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(texts=read_texts(get_language() or FALLBACK), **kwargs)


class ImportPage(LoginRequiredMixin, StrictPage, TemplateView):
    """`/products/import/`: choose a file, see what is wrong with it, import it, follow it, mend the rest."""

    template_name = "import_page/import.html"


class SignIn(StrictPage, LoginView):
    """For people who are no staff, and so cannot sign in at the admin."""

    template_name = "import_page/sign_in.html"
    redirect_authenticated_user = True
