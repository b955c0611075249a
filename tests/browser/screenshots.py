"""`make screenshots`: takes the screenshots of the README, in docs/images, for a desktop and for a phone.

A scene is a function that gets its own running shop and a browser window, and takes screenshots on the way. Add a
scene to SCENES; it runs once for each width.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from playwright.sync_api import expect

from bulk_import.local.processes import stop_process
from demo.stack import PROJECT, LocalStack, local_stack
from tests.browser.chromium import chromium

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from email.message import EmailMessage

    from playwright.sync_api import BrowserContext, Locator, Page

FOLDER = PROJECT / "docs/images"
CATALOGUE = PROJECT / "demo/catalogue.json"
COLUMNS = ["sku", "name", "price", "currency", "stock", "category"]
WIDTHS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1100, "height": 600}},
    "phone": {"viewport": {"width": 390, "height": 700}, "device_scale_factor": 1.5, "color_scheme": "dark"},
}
MAX_HEIGHT = 1250
"""Height in CSS pixels at which a screenshot is cut off."""

MIN_CREATED_ROWS = 250
"""Number of created rows at which the screenshot of a running import is taken, so that its bar is visible."""

PATIENCE_MS = 30_000

END_OF_MAIL = b"-" * 79 + b"\n"
"""The line that Django's file backend writes after each email."""


@dataclass
class Scene:
    """A running shop, a browser window, and the name of the width, which is part of each file name."""

    stack: LocalStack
    poller: subprocess.Popen[bytes]
    window: BrowserContext
    width: str

    def take(self, page: Page, name: str, part: Locator | None = None) -> None:
        """Save the page, or from `part` on, as docs/images/NAME-WIDTH.png, cut off at MAX_HEIGHT."""
        page.evaluate("document.activeElement?.blur()")
        # What sticks to the edge of the window would cover other content in a picture of the whole page.
        page.evaluate("for (const part of document.querySelectorAll('.decision')) part.style.position = 'static'")
        width, height = page.evaluate("[document.documentElement.clientWidth, document.body.scrollHeight]")
        top = part.evaluate("part => part.getBoundingClientRect().top + scrollY - 16") if part else 0
        clip: Any = {"x": 0, "y": top, "width": width, "height": min(height - top, MAX_HEIGHT)}
        picture = FOLDER / f"{name}-{self.width}.png"
        page.screenshot(path=picture, full_page=True, clip=clip, animations="disabled")

    def stop_poller(self) -> None:
        """Stop the poller, so that the pages do not change."""
        os.killpg(self.poller.pid, signal.SIGSTOP)

    def continue_poller(self) -> None:
        os.killpg(self.poller.pid, signal.SIGCONT)


def spreadsheet() -> str:
    """Return a CSV file with six sizes of each product of the demo, two of them invalid."""
    catalogue = json.loads(CATALOGUE.read_text("utf-8"))
    rows = [{**row, "sku": f"{row['sku']}-{size}"} for size in ("XS", "S", "M", "L", "XL", "XXL") for row in catalogue]
    unique = list({row["sku"]: row for row in rows}.values())
    unique[4] = {**unique[4], "price": ""}
    unique[11] = {**unique[11], "price": "about 25"}
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
    page.locator("#choose").wait_for()  # the script shows it when it is ready
    scene.take(page, "import-choose")
    content = add_column(spreadsheet(), "Supplier", "Norte")
    file = {"name": "autumn-catalogue.csv", "mimeType": "text/csv", "buffer": content.encode()}
    page.locator("#file").set_input_files(file)  # type: ignore[arg-type] # a FilePayload, which is private
    page.get_by_label("Supplier").wait_for()
    scene.take(page, "import-columns")
    page.get_by_label("Supplier").select_option(label="Do not import")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#failed-rows table")).to_be_visible(timeout=PATIENCE_MS)
    scene.take(page, "import-check")
    page.get_by_role("button", name="Correct the rows here").click()
    page.locator("#grid-rows table").wait_for()
    scene.take(page, "import-grid", page.locator("#grid"))
    page.locator("[value=run]").click()
    expect(page.get_by_role("heading", name="Importing")).to_be_visible()
    job = f"/products/bulk/{page.url.partition('?job=')[2]}"
    while page.request.get(job).json()["counts"]["created"] < MIN_CREATED_ROWS:
        time.sleep(0.1)
    scene.stop_poller()
    page.reload()
    page.locator("#bar span").first.wait_for()
    scene.take(page, "import-running")
    scene.continue_poller()
    expect(page.locator("#failed-rows table")).to_be_visible(timeout=PATIENCE_MS)
    scene.take(page, "import-result")


def add_column(text: str, name: str, value: str) -> str:
    """Return a CSV with a further column, which has the same value in each row."""
    head, *lines = text.splitlines()
    return "\n".join([f"{head},{name}", *(f"{line},{value}" for line in lines)]) + "\n"


def admin(scene: Scene) -> None:
    """Take the page of an ended import, a list with one ended, one paused and one open import, and "Imports now"."""
    headers = {"Content-Type": "text/csv", "Content-Disposition": 'attachment; filename="autumn-catalogue.csv"'}
    post = partial(httpx.post, headers=headers, auth=("demo", "demo"), timeout=60, trust_env=False)
    url = f"{scene.stack.url}/products/bulk"
    ended = post(f"{url}?on_invalid=skip", content=spreadsheet()).headers["Location"]
    page = scene.window.new_page()
    if scene.width == "desktop":
        page.set_viewport_size({"width": 1366, "height": 600})  # the admin has a column on each side
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    job_page = f"/admin/bulk_import/importjob/{ended.rpartition('/')[2]}/change/"
    page.goto(job_page)
    expect(page.locator(".bi-summary .bi-badge")).to_have_text("partially succeeded", timeout=PATIENCE_MS)
    scene.take(page, "admin-job")

    scene.stop_poller()
    other = spreadsheet().replace("-XS,", "-XXS,")
    paused = post(f"{url}?on_invalid=skip", content=other).headers["Location"].rpartition("/")[2]
    post(f"{url}?on_invalid=skip", content=spreadsheet().replace("-XL,", "-XXXL,"))
    page.goto(f"/admin/bulk_import/importjob/{paused}/do/pause/")
    page.get_by_role("button", name="Pause").click()
    page.goto("/admin/bulk_import/importjob/")
    scene.take(page, "admin-list")
    scene.continue_poller()
    page.goto("/admin/bulk_import/importsnow/")
    expect(page.locator("#bi-workers tr.bi-chunk").first).to_be_visible(timeout=PATIENCE_MS)
    scene.stop_poller()
    page.reload()
    scene.take(page, "admin-now")
    scene.continue_poller()


def mail(scene: Scene) -> None:
    """Take the HTML of the email that the submitter of the demo's catalogue gets."""
    answer = scene.window.request.post(
        "/products/bulk?on_invalid=skip",
        data=CATALOGUE.read_bytes(),
        headers={"Content-Type": "application/json", "Authorization": f"Basic {b64encode(b'demo:demo').decode()}"},
    )
    expect(answer).to_be_ok()
    email: EmailMessage | None = None
    while email is None:
        time.sleep(0.1)
        written = [path.read_bytes() for path in scene.stack.mail_folder.glob("*.log")]
        email = next((message_from_bytes(mail, policy=default) for mail in written if mail.endswith(END_OF_MAIL)), None)
    html = email.get_body(("html",))
    assert html is not None
    page = scene.window.new_page()
    page.set_content(html.get_content())
    scene.take(page, "mail")


SCENES: list[Callable[[Scene], None]] = [import_page, admin, mail]


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
