"""`make screenshots`: the pictures of the README, in docs/images, each as wide as a desk and as wide as a phone.

A scene is a function that gets a shop of its own and a browser window, and takes its pictures on the way. Add one to
SCENES; it is played once for each width.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from demo.stack import PROJECT, LocalStack, local_stack, stop_process
from tests.browser.chromium import chromium

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page

FOLDER = PROJECT / "docs/images"
CATALOGUE = PROJECT / "demo/catalogue.json"
COLUMNS = ["sku", "name", "price", "currency", "stock", "category"]
WIDTHS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1100, "height": 600}},
    "phone": {"viewport": {"width": 390, "height": 700}, "device_scale_factor": 1.5, "color_scheme": "dark"},
}
MOST_HEIGHT = 1250  # in CSS pixels
ENOUGH_FOR_A_BAR = 250  # rows
PATIENCE_MS = 30_000


@dataclass
class Scene:
    """A running shop, a window on it, and the width that the pictures are named after."""

    stack: LocalStack
    poller: subprocess.Popen[bytes]
    window: BrowserContext
    width: str

    def take(self, page: Page, name: str) -> None:
        """The page, as docs/images/NAME-WIDTH.png: all of it, or as much as one likes to scroll past in a README."""
        page.evaluate("document.activeElement?.blur()")
        width, height = page.evaluate("[document.documentElement.clientWidth, document.body.scrollHeight]")
        clip: Any = {"x": 0, "y": 0, "width": width, "height": min(height, MOST_HEIGHT)}
        picture = FOLDER / f"{name}-{self.width}.png"
        page.screenshot(path=picture, full_page=True, clip=clip, animations="disabled")

    def rest(self) -> None:
        """Let the poller rest, so that what is shown stays as it is."""
        os.killpg(self.poller.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.poller.pid, signal.SIGCONT)


def spreadsheet() -> str:
    """The demo's catalogue six times over, with two rows that no shop would take."""
    catalogue = json.loads(CATALOGUE.read_text("utf-8"))
    rows = [{**row, "sku": f"{row['sku']}-{size}"} for size in ("XS", "S", "M", "L", "XL", "XXL") for row in catalogue]
    unique = list({row["sku"]: row for row in rows}.values())
    unique[4] = {**unique[4], "price": ""}
    unique[11] = {**unique[11], "price": "24,90"}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(unique)
    return text.getvalue()


def import_page(scene: Scene) -> None:
    page = scene.window.new_page()
    page.goto("/products/import/")
    page.get_by_label("User name").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    page.locator("#start").wait_for()  # shown by the script, when it is ready
    file = {"name": "autumn-catalogue.csv", "mimeType": "text/csv", "buffer": spreadsheet().encode()}
    page.locator("#file").set_input_files(file)  # type: ignore[arg-type] # a FilePayload, which is private
    page.get_by_label("Skip it and import the others").check()
    scene.take(page, "import-errors")
    page.locator("#import").click()
    expect(page).to_have_url(re.compile("job="))
    job = f"/products/bulk/{page.url.partition('?job=')[2]}"
    while page.request.get(job).json()["counts"]["created"] < ENOUGH_FOR_A_BAR:
        time.sleep(0.1)
    scene.rest()
    page.reload()
    page.locator("#bar span").first.wait_for()
    scene.take(page, "import-running")
    scene.go_on()
    expect(page.locator("#failed-rows table")).to_be_visible(timeout=PATIENCE_MS)
    scene.take(page, "import-result")


SCENES: list[Callable[[Scene], None]] = [import_page]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for width, options in WIDTHS.items():
            for scene in SCENES:
                with ExitStack() as parts:
                    stack = parts.enter_context(local_stack())
                    parts.callback(stop_process, stack.start_monolith())
                    poller = stack.start_poller()
                    parts.callback(stop_process, poller)
                    window = browser.new_context(base_url=stack.url, locale="en-GB", timezone_id="UTC", **options)
                    window.set_default_timeout(PATIENCE_MS)
                    scene(Scene(stack, poller, window, width))
                    window.close()
    for picture in sorted(FOLDER.glob("*.png")):
        print(f"{picture.stat().st_size // 1024:>5} KiB  {picture.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
