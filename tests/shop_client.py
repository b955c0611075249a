"""What a user of a running shop does over HTTP, for the tests that use it from the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

TERMINAL = {"succeeded", "partially_succeeded", "failed", "cancelled"}


class ShopClient:
    """A user of the shop. `http` sends their requests, with the base URL of the shop."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def submit(self, rows: list[dict[str, Any]]) -> str:
        """Submit the rows, and return the URL of the job."""
        answer = self.http.post("/products/bulk?on_invalid=skip", json=rows)
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    def job(self, location: str) -> dict[str, Any]:
        job: dict[str, Any] = self.http.get(location).json()
        return job

    def has_ended(self, location: str) -> bool:
        return self.job(location)["status"] in TERMINAL

    def skus(self, prefix: str) -> list[str]:
        """Return the SKUs of all products with this prefix, from all pages of the list."""
        found: list[str] = []
        page: str | None = "/products/"
        while page:
            answer = self.http.get(page).json()
            found += [product["sku"] for product in answer["results"] if product["sku"].startswith(prefix)]
            page = answer["next"]
        return found
