import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from products.validators import validate_ean13

DIGITS = "0123456789"


def is_valid(barcode: str) -> bool:
    try:
        validate_ean13(barcode)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("barcode", ["4006381333931", "5901234123457", "9780201379624", "0000000000000"])
def test_a_real_barcode_is_valid(barcode: str) -> None:
    """These are printed on real products, except for the last one, which is the lowest valid number."""
    assert is_valid(barcode)


@given(st.text(alphabet=DIGITS, min_size=12, max_size=12))
def test_exactly_one_check_digit_is_right(first_twelve: str) -> None:
    """Every sequence of twelve digits has one correct check digit."""
    assert sum(is_valid(first_twelve + check_digit) for check_digit in DIGITS) == 1


@given(
    st.text(alphabet=DIGITS, min_size=12, max_size=12),
    st.integers(min_value=0, max_value=12),
    st.integers(min_value=1, max_value=9),
)
def test_one_misread_digit_is_detected(first_twelve: str, place: int, difference: int) -> None:
    """A barcode with one wrong digit is invalid."""
    barcode = next(first_twelve + digit for digit in DIGITS if is_valid(first_twelve + digit))
    misread = str((int(barcode[place]) + difference) % 10)

    assert not is_valid(barcode[:place] + misread + barcode[place + 1 :])


@pytest.mark.parametrize(
    "barcode",
    ["", "400638133393", "40063813339310", "400638133393X", " 006381333931", "4006381333931\n"],
)
def test_a_value_without_exactly_thirteen_digits_is_refused(barcode: str) -> None:
    """A value with more digits, fewer digits or other characters is refused."""
    with pytest.raises(ValidationError) as error:
        validate_ean13(barcode)

    assert error.value.code == "ean13_format"


def test_a_barcode_has_ascii_digits_only() -> None:
    """Digits of other scripts are refused."""
    assert not is_valid("4006381333931".translate({ord("0") + n: 0x0660 + n for n in range(10)}))


def test_a_wrong_check_digit_has_its_own_code() -> None:
    """Clients can tell a mistyped barcode from a value that is not a barcode at all."""
    with pytest.raises(ValidationError) as error:
        validate_ean13("4006381333932")

    assert error.value.code == "ean13_check_digit"
