"""URLs of a site with an import page for two targets, and for one that its settings do not have."""

from django.urls import include, path
from rest_framework import serializers

from import_page.views import SignIn
from products.models import Category


class CategorySerializer(serializers.ModelSerializer[Category]):
    class Meta:
        model = Category
        fields = ["id", "slug", "name"]


urlpatterns = [
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("products/import/", include("import_page.urls"), {"target": "products"}),
    path("categories/bulk", include("bulk_import.urls"), {"target": "categories"}),
    path("categories/import/", include("import_page.urls", namespace="categories"), {"target": "categories"}),
    path("unknown/import/", include("import_page.urls", namespace="unknown"), {"target": "unknown"}),
    path("sign-in/", SignIn.as_view(), name="sign-in"),
]
