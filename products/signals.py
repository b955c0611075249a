from django.db.models.signals import post_save
from django.dispatch import receiver

from products.models import Product, StockMovement


@receiver(post_save, sender=Product, dispatch_uid="products.record_initial_stock")
def record_initial_stock(instance: Product, *, created: bool, raw: bool = False, **_kwargs: object) -> None:
    """Record the first stock movement of a product that is created with stock."""
    if created and not raw and instance.stock > 0:
        StockMovement.objects.create(
            product=instance,
            quantity=instance.stock,
            reason=StockMovement.Reason.INITIAL,
        )
