"""The endpoint accepts only application/vnd.api+json, and workers send application/json."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "REST_FRAMEWORK": {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_PARSER_CLASSES": ["tests.monoliths.shop.formats.JsonApiParser"],
        "DEFAULT_RENDERER_CLASSES": ["tests.monoliths.shop.formats.JsonApiRenderer"],
    }
}
CASE = {
    "url_name": "items",
    "told": "Add rest_framework.parsers.JSONParser to parser_classes",
    "fix": """
REST_FRAMEWORK["DEFAULT_PARSER_CLASSES"].append("rest_framework.parsers.JSONParser")
REST_FRAMEWORK["DEFAULT_RENDERER_CLASSES"].append("rest_framework.renderers.JSONRenderer")
""",
}

urlpatterns = [path("items/", create_or_list, name="items")]
