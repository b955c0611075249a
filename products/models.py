from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from products.validators import validate_ean13

LIGHTEST_KG = Decimal("0.001")


class Category(models.Model):
    slug = models.SlugField(_("slug"), unique=True)
    name = models.CharField(_("name"), max_length=100)
    is_open = models.BooleanField(
        _("open"),
        default=True,
        help_text=_("An archived category keeps its products but takes no new ones."),
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("category")
        verbose_name_plural = _("categories")

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    class Currency(models.TextChoices):
        BRL = "BRL", _("Brazilian real")
        USD = "USD", _("US dollar")
        EUR = "EUR", _("euro")

    sku = models.CharField(_("SKU"), max_length=64, unique=True)
    name = models.CharField(_("name"), max_length=200)
    description = models.TextField(_("description"), blank=True)
    price = models.DecimalField(
        _("price"),
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(Decimal(0))],
    )
    currency = models.CharField(_("currency"), max_length=3, choices=Currency)
    stock = models.PositiveIntegerField(_("stock"), default=0)
    category = models.ForeignKey(
        Category,
        on_delete=models.PROTECT,
        related_name="products",
        verbose_name=_("category"),
    )
    weight_kg = models.DecimalField(
        _("weight (kg)"),
        max_digits=8,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(LIGHTEST_KG)],
    )
    color = models.CharField(_("color"), max_length=40, blank=True)
    size = models.CharField(_("size"), max_length=20, blank=True)
    barcode = models.CharField(
        _("barcode"),
        max_length=13,
        unique=True,
        null=True,  # not "", because a unique column allows any number of nulls
        blank=True,
        validators=[validate_ean13],
    )
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        ordering = ["id"]
        verbose_name = _("product")
        verbose_name_plural = _("products")
        constraints = [
            models.CheckConstraint(condition=models.Q(price__gte=0), name="product_price_not_negative"),
            models.CheckConstraint(
                condition=models.Q(weight_kg__isnull=True) | models.Q(weight_kg__gt=0),
                name="product_weight_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.sku})"


class StockMovement(models.Model):
    """One change of a product's stock: the quantity that came in or went out, and the reason."""

    class Reason(models.TextChoices):
        INITIAL = "initial", _("initial stock")
        DELIVERY = "delivery", _("delivery")
        SALE = "sale", _("sale")
        CORRECTION = "correction", _("correction")

    product = models.ForeignKey(
        Product,
        on_delete=models.CASCADE,
        related_name="stock_movements",
        verbose_name=_("product"),
    )
    quantity = models.IntegerField(_("quantity"), help_text=_("Negative when stock goes out."))
    reason = models.CharField(_("reason"), max_length=20, choices=Reason)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("stock movement")
        verbose_name_plural = _("stock movements")

    def __str__(self) -> str:
        return f"{self.product.sku}: {self.quantity:+d} ({self.get_reason_display()})"
