"""What a monolith writes for a second target: settings, and one URL line. The rest is its own domain."""

from typing import TYPE_CHECKING

from django.urls import include, path
from rest_framework import generics, serializers

from products.models import Category
from settings.urls import urlpatterns as shop_urls

TARGETS = {
    "categories": {"create_url": "categories", "serializer": "tests.bulk_import.second_target.CategorySerializer"}
}

if TYPE_CHECKING:
    CategoryModelSerializer = serializers.ModelSerializer[Category]
    CreateCategory = generics.CreateAPIView[Category]
else:
    CategoryModelSerializer = serializers.ModelSerializer
    CreateCategory = generics.CreateAPIView


class CategorySerializer(CategoryModelSerializer):
    class Meta:
        model = Category
        fields = ["id", "slug", "name"]


class CategoryView(CreateCategory):
    queryset = Category.objects.all()
    serializer_class = CategorySerializer


urlpatterns = [
    path("categories/bulk", include("bulk_import.urls"), {"target": "categories"}),
    path("categories/", CategoryView.as_view(), name="categories"),
    *shop_urls,
]
