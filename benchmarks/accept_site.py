"""A site with all contenders of the accept benchmark: the endpoint, plain views and the floor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from django.core.files.storage import storages
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from bulk_import.api.views import ImportJobsView
from bulk_import.conf import PAYLOADS_STORAGE
from bulk_import.intake.endpoint_rules import skip_database_checks
from bulk_import.intake.request_body import read_upload
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.validation import validate_rows
from products.models import Product
from products.serializers import ProductSerializer
from settings.urls import urlpatterns as shop_urls

if TYPE_CHECKING:
    from rest_framework.request import Request


def put(body: bytes) -> None:
    storage: Any = storages[PAYLOADS_STORAGE]
    storage.connection.meta.client.put_object(Bucket=storage.bucket_name, Key=f"plain/{uuid4()}", Body=body)


class PlainView(APIView):
    """The simplest implementation: DRF parses and validates all rows at once, and json serializes them."""

    queryset = Product.objects.all()  # required by the permission class

    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(request.data)
        serializer.is_valid(raise_exception=True)
        put(json.dumps(request.data).encode())
        return Response({"rows": len(request.data)}, status=202)

    def get_serializer(self, data: Any) -> Any:
        return ProductSerializer(many=True, data=data, context={"request": self.request})


class QuerylessView(PlainView):
    """The plain view without the validation that reads the database, which the endpoint does not do either."""

    def get_serializer(self, data: Any) -> Any:
        serializer = super().get_serializer(data)
        skip_database_checks(serializer)
        return serializer


class ValidationView(ImportJobsView):
    """A dry run without the comparison with the database."""

    def post(self, request: Request, **_kwargs: Any) -> Response:
        upload = read_upload(request, ReadingOptions())
        result = validate_rows(self.target, upload.rows(self.target, request), request)
        return Response({"rows": result.rows, "invalid_rows": result.invalid_rows})


class FloorView(APIView):
    """The least possible work: parse once with the fastest parser, and store the body unchanged."""

    queryset = Product.objects.all()

    def post(self, request: Request) -> Response:
        body = request.body
        rows = msgspec.json.decode(body)
        put(body)
        return Response({"rows": len(rows)}, status=202)


urlpatterns = [
    path("plain", PlainView.as_view()),
    path("queryless", QuerylessView.as_view()),
    path("validation", ValidationView.as_view(), {"target": "products"}),
    path("floor", FloorView.as_view()),
    *shop_urls,
]
