"""The simulated site: a small create endpoint whose behaviour the run decides, the products, and bulk import.

No field of a category is unique in the database, so a row that is created twice is visible as two categories. Imports
identify a category by its name, and its slug is the value that they write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import include, path
from rest_framework import serializers, viewsets

from products.models import Category
from tests.simulation.surroundings import current

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.response import Response

    CategoryModelSerializer = serializers.ModelSerializer[Category]
    CategoryViewSet = viewsets.ModelViewSet[Category]
else:
    CategoryModelSerializer = serializers.ModelSerializer
    CategoryViewSet = viewsets.ModelViewSet


class CategorySerializer(CategoryModelSerializer):
    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=100)
    slug = serializers.SlugField()  # nothing looks for duplicates

    class Meta:
        model = Category
        fields = ["id", "name", "slug"]


class CategoryView(CategoryViewSet):
    queryset = Category.objects.all()
    serializer_class = CategorySerializer

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().create(request, *args, **kwargs)
        response.status_code = current().endpoint.success_status(response.data["name"])
        return response

    def perform_create(self, serializer: serializers.BaseSerializer[Category]) -> None:
        name = serializer.validated_data["name"]
        current().endpoint.before_write(name)
        serializer.save()
        current().endpoint.after_write(name)

    def perform_update(self, serializer: serializers.BaseSerializer[Category]) -> None:
        self.perform_create(serializer)

    def perform_destroy(self, instance: Category) -> None:
        current().endpoint.before_write(instance.name)
        instance.delete()
        current().endpoint.after_write(instance.name)


urlpatterns = [
    path("bulk-import/worker/", include("bulk_import.worker_urls")),  # first, because most requests are a worker's
    path("categories/bulk", include("bulk_import.urls"), {"target": "categories"}),
    path("categories/", CategoryView.as_view({"post": "create"}), name="categories"),
    path(
        "categories/<int:pk>/", CategoryView.as_view({"patch": "partial_update", "delete": "destroy"}), name="category"
    ),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("products/", include("products.urls")),
]
