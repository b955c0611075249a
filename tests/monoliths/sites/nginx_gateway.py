"""nginx strips the prefix, and later refuses batches as too large. It must not replace the answers of errors."""

from rest_framework.routers import SimpleRouter

from tests.monoliths.shop.api import ItemViewSet

SETTINGS = {"FORCE_SCRIPT_NAME": "/shop"}
CASE = {
    "url_name": "item-list",
    "told": "proxy_intercept_errors off",
    "nginx": """
location /shop/ {
    proxy_pass http://site/;
    proxy_set_header Host $http_host;
    proxy_intercept_errors on;
    error_page 400 404 500 = @error;
}
location @error { return 400 "Something went wrong."; }
""",
    "nginx_fix": """
location /shop/ {
    proxy_pass http://site/;
    proxy_set_header Host $http_host;
}
""",
    "nginx_later": """
location /shop/ {
    proxy_pass http://site/;
    proxy_set_header Host $http_host;
}
location ~ ^/shop/(bulk-import/worker/chunks/.*/rows)$ {
    client_max_body_size 100;
    proxy_pass http://site/$1;
    proxy_set_header Host $http_host;
}
""",
    "prefix": "/shop",
    "more": """
BULK_IMPORT["TARGETS"]["items"] |= {"detail_url": "item-detail", "lookup": "sku"}
""",
    "row_count": 40,
    "is_undone": True,
}

router = SimpleRouter()
router.register("items", ItemViewSet)
urlpatterns = router.urls
