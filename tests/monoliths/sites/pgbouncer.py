"""PgBouncer with transaction pooling is in front of PostgreSQL: each transaction may have another connection."""

from rest_framework.routers import SimpleRouter

from tests.monoliths.shop.api import ItemViewSet

CASE = {
    "url_name": "item-list",
    "database": "pgbouncer transaction",
    "more": """
BULK_IMPORT["TARGETS"]["items"] |= {"detail_url": "item-detail", "lookup": "sku"}
BULK_IMPORT["CHUNK_ROWS"] = 15
""",
    "row_count": 40,
    "is_undone": True,
    "report": "Databases: default (written); read committed.",
}

router = SimpleRouter()
router.register("items", ItemViewSet)
urlpatterns = router.urls
