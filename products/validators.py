"""Validation of barcodes. They are EAN-13 numbers, whose last digit is a check digit."""

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

THIRTEEN_DIGITS = re.compile(r"[0-9]{13}")  # not \d, which also matches digits of other scripts


def ean13_check_digit(digits: str) -> str:
    """Return the check digit for the first twelve digits of a barcode."""
    # The weights are 1, 3, 1, 3, ... from the left. The check digit makes the weighted sum a multiple of ten.
    weighted_sum = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits[:12]))
    return str(-weighted_sum % 10)


def validate_ean13(value: str) -> None:
    if not THIRTEEN_DIGITS.fullmatch(value):
        raise ValidationError(_("A barcode has exactly 13 digits."), code="ean13_format")
    if value[12] != ean13_check_digit(value):
        raise ValidationError(_("The check digit of this barcode is wrong."), code="ean13_check_digit")
