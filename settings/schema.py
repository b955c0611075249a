"""Describes QuietBasicAuthentication in the schema of the API. drf-spectacular finds the class when it is imported."""

from drf_spectacular.authentication import BasicScheme


class QuietBasicScheme(BasicScheme):  # type: ignore[no-untyped-call] # drf-spectacular has no types here
    target_class = "settings.authentication.QuietBasicAuthentication"
