from typing import Any

import pytest
from rest_framework.test import APIClient

URL = "/products/"


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("en", "This is not a number. Write it like this: 12.50."),
        ("pt-BR", "Isto não é um número. Escreva assim: 12.50."),
    ],
)
def test_a_price_with_a_comma_is_explained_in_the_clients_language(
    shopkeeper_client: APIClient, tent: dict[str, Any], language: str, message: str
) -> None:
    """The message shows how to write the number."""
    response = shopkeeper_client.post(URL, {**tent, "price": "12,50"}, headers={"Accept-Language": language})

    assert response.json() == {"price": [message]}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("currency", "GBP", "“GBP” is not a currency of this shop."),
        ("stock", "many", "This is not a whole number. Write it like this: 12."),
        ("weight_kg", "1,25", "This is not a number. Write it like this: 1.250."),
    ],
)
def test_a_bad_value_is_explained(
    shopkeeper_client: APIClient, tent: dict[str, Any], field: str, value: str, message: str
) -> None:
    """The shop has its own messages for the errors that spreadsheets often cause."""
    response = shopkeeper_client.post(URL, {**tent, field: value})

    assert response.json() == {field: [message]}
