"""Users have UUIDs and sign in with an email address and a signed token. The view has no serializer class."""

from typing import Any

from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.monoliths.shop.api import ItemSerializer

SETTINGS = {
    "AUTH_USER_MODEL": "accounts.Account",
    "REST_FRAMEWORK": {
        "DEFAULT_AUTHENTICATION_CLASSES": ["tests.monoliths.shop.formats.SignedTokenAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    },
    "INSTALLED_APPS": ["tests.monoliths.accounts"],
}
CASE = {
    "url_name": "items",
    "init": ["--serializer", "tests.monoliths.shop.api.ItemSerializer"],
    "user": "anna@shop.example",
    "scheme": "Bearer",
    "query": "SELECT sku, seen FROM shop_item ORDER BY sku",
    "stored": [["A", "anna@shop.example"], ["B", "anna@shop.example"]],
}


class CreateItem(APIView):
    def post(self, request: Any) -> Response:
        serializer = ItemSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        serializer.save(seen=str(request.user))
        return Response(serializer.data, status=201)


urlpatterns = [path("items/", CreateItem.as_view(), name="items")]
