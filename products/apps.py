from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "products"

    def ready(self) -> None:
        from products import signals  # noqa: F401, PLC0415 - connects the receivers once the models are loaded
