"""A browser that looks at a site on disk, and notes what it should not do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = None if CHROMIUM else "there is no Chromium here"
    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        missing = f"{error.name} is not installed: pip install -e '.[browser]'"
    for item in items:
        if missing and "browser" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclass
class Watched:
    """A page, with what it said on the console and what it asked of anything but its own folder."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


Open = Callable[..., Watched]


@pytest.fixture
def look(browser: Any) -> Iterator[Open]:
    """Open a page of a site, a folder or an address; what leaves it, an error, a message fails the test in the end."""
    opened: list[tuple[Any, Watched]] = []

    def open_page(site: Path | str, way: str = "#/", **options: Any) -> Watched:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        watched = Watched(context.new_page())
        root = site.resolve().as_uri() if isinstance(site, Path) else site

        def only_own(route: Any) -> None:
            if route.request.url.startswith(f"{root}/"):
                route.continue_()
            else:
                watched.asked.append(route.request.url)
                route.abort()

        context.route("**/*", only_own)
        watched.page.on("console", lambda message: watched.said.append(message.text))
        watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
        watched.page.goto(f"{root}/index.html{way}")
        watched.page.wait_for_selector("h1")
        opened.append((context, watched))
        return watched

    yield open_page
    for context, watched in opened:
        context.close()
        assert watched.said == []
        assert watched.asked == []
