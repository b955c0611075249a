"""A site without anything special."""

from rest_framework.routers import SimpleRouter

from tests.monoliths.shop.api import ItemViewSet

CASE = {"url_name": "item-list", "report": "tests.monoliths.shop.api.ItemViewSet answered 201"}

router = SimpleRouter()
router.register("items", ItemViewSet)
urlpatterns = router.urls
