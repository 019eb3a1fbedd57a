"""Draws docs/figures/flag.png, the strongest flag of the demo, while `make demo` shows its page:

python docs/hooks/flag.py http://127.0.0.1:8000
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "figures" / "flag.png"
SIZE: ViewportSize = {"width": 900, "height": 1010}


def draw(address: str) -> None:
    """Open the first flag of the newest month, and keep what is seen of it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.locator("a[href^='/users/']").first.click()
        page.locator("a[href^='/flags/']").first.click()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FIGURE)
        browser.close()


if __name__ == "__main__":
    draw(sys.argv[1])
