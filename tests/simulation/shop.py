"""The simulated site: a small create endpoint whose behaviour the run decides, the products, and bulk import.

The categories have no unique field that a row sets, so a row that is created twice is visible as two categories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.urls import include, path
from rest_framework import generics, serializers

from products.models import Category
from tests.simulation.surroundings import current

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.response import Response

    CategoryModelSerializer = serializers.ModelSerializer[Category]
    CreateCategory = generics.CreateAPIView[Category]
else:
    CategoryModelSerializer = serializers.ModelSerializer
    CreateCategory = generics.CreateAPIView


class CategorySerializer(CategoryModelSerializer):
    class Meta:
        model = Category
        fields = ["id", "name"]


class CategoryView(CreateCategory):
    queryset = Category.objects.all()
    serializer_class = CategorySerializer

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().create(request, *args, **kwargs)
        response.status_code = current().endpoint.success_status(response.data["name"])
        return response

    def perform_create(self, serializer: serializers.BaseSerializer[Category]) -> None:
        name = serializer.validated_data["name"]
        current().endpoint.before_create(name)
        serializer.save(slug=uuid4().hex)
        current().endpoint.after_create(name)


urlpatterns = [
    path("categories/bulk", include("bulk_import.urls"), {"target": "categories"}),
    path("categories/", CategoryView.as_view(), name="categories"),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("products/", include("products.urls")),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
]
