"""Each tenant has a schema of its own, and django-tenants chooses it by the host."""

from rest_framework.routers import SimpleRouter

from tests.monoliths.shop.api import ItemViewSet

SETTINGS = {
    "ALLOWED_HOSTS": ["127.0.0.1", ".shop.example"],
    "SHARED_APPS": [
        "django_tenants",
        "tests.monoliths.tenants",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.admin",
        "django.contrib.staticfiles",
        "rest_framework",
        "bulk_import",
    ],
    "TENANT_APPS": ["tests.monoliths.shop"],
    "TENANT_MODEL": "tenants.Tenant",
    "TENANT_DOMAIN_MODEL": "tenants.Domain",
    "DATABASE_ROUTERS": ["django_tenants.routers.TenantSyncRouter"],
}
CASE = {
    "url_name": "item-list",
    "database": "postgresql",
    "databases": {"ENGINE": "django_tenants.postgresql_backend"},
    "package": "django-tenants==4.0.1",
    "prepare": """
from tests.monoliths.tenants.models import Domain, Tenant
for name, host in [("public", "127.0.0.1"), ("north", "north.shop.example"), ("south", "south.shop.example")]:
    tenant = Tenant.objects.create(schema_name=name, name=name)
    Domain.objects.create(domain=host, tenant=tenant, is_primary=True)
call_command("migrate_schemas", run_syncdb=True, verbosity=0)
""",
    "more": """
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware", *MIDDLEWARE]
BULK_IMPORT["TARGETS"]["items"] |= {"detail_url": "item-detail", "lookup": "sku"}
""",
    "host": "north.shop.example",
    "tenants": ["south.shop.example"],
    "row_count": 25,
    "is_undone": True,
    "report": "Host north.shop.example, tenant north",
}

router = SimpleRouter()
router.register("items", ItemViewSet)
urlpatterns = router.urls
