"""A throttle allows each user 30 requests per minute, so an import would take very long."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "REST_FRAMEWORK": {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"user": "30/min"},
    }
}
CASE = {
    "url_name": "items",
    "told": "The throttles (UserRateThrottle 30/min) allow 0.5 rows per second.",
    "fix": 'REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["user"] = "100/second"',
    "report": "Throttles: UserRateThrottle 100/second.",
}

urlpatterns = [path("items/", create_or_list, name="items")]
