"""Imports rows with django-import-export: `python -m benchmarks.import_export FILE`, a JSON array of rows.

It writes the products directly, without the create endpoint and its permissions, and in one transaction.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import django


def main(path: str) -> None:
    django.setup()
    # Models can be imported only after django.setup().
    import tablib  # noqa: PLC0415
    from import_export.fields import Field  # noqa: PLC0415
    from import_export.resources import ModelResource  # noqa: PLC0415
    from import_export.widgets import ForeignKeyWidget  # noqa: PLC0415

    from products.models import Category, Product  # noqa: PLC0415

    class ProductResource(ModelResource):  # type: ignore[misc] # the package has no type hints
        category = Field("category", "category", ForeignKeyWidget(Category, "slug"))

        class Meta:
            model = Product
            import_id_fields = ["sku"]
            clean_model_instances = True  # so that it refuses what the endpoint refuses

    rows = json.loads(Path(path).read_text())
    data = tablib.Dataset(*(list(row.values()) for row in rows), headers=list(rows[0]))
    ProductResource().import_data(data, raise_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
