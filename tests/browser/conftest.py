"""A real browser for the tests of pages: Debian's chromium, driven by its chromedriver. Without it these tests skip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",  # root, as in containers, has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """A browser that remembers what its console said and what pages asked of the network.

    ``driver`` is Selenium's own, for all that has no short form here.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str | Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page, a file by its path, in a window of so many pixels; what was said before is forgotten."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(address.resolve().as_uri() if isinstance(address, Path) else address)

    def console(self) -> list[str]:
        """Return the warnings and errors of the console since the page was opened, or since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened, or since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith(("data:", "chrome:", "about:"))]

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; ``return`` gives its answer."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, css: str) -> list[str]:
        """Return the text of every element that a CSS selector finds, shown or not."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", css
        )

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is: a character, or a name such as "ARROW_RIGHT"."""
        from selenium.webdriver import ActionChains, Keys

        for key in keys:
            ActionChains(self.driver).send_keys(getattr(Keys, key, key)).perform()

    def wait_for(self, css: str, seconds: float = 30) -> Any:
        """Return the first element that a CSS selector finds, once it is there and shown."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.expected_conditions import visibility_of_element_located
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, seconds).until(
            visibility_of_element_located((By.CSS_SELECTOR, css))
        )

    def click(self, css: str) -> None:
        """Click the first element that a CSS selector finds, once it is there, shown, and holds still in the window."""
        from selenium.common.exceptions import ElementClickInterceptedException
        from selenium.webdriver.support.wait import WebDriverWait

        element = self.wait_for(css)

        def clicked(_: Any) -> bool:
            self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
            element.click()
            return True

        ignored = [ElementClickInterceptedException]  # what was scrolled before still moves
        WebDriverWait(self.driver, 30, ignored_exceptions=ignored).until(clicked)

    def screenshot(self, path: str | Path) -> None:
        """Write what the window shows as PNG."""
        self.driver.save_screenshot(str(path))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; each opens its own page."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: see requirements-test.txt"
    )
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no browser: install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_script_timeout(120)  # seconds; a page that is being built on a busy machine answers late
    try:
        yield Browser(started)
    finally:
        started.quit()
