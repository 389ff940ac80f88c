"""Pages opened in a real browser, without a screen."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lgmamba.analysis.collect import load_study
from lgmamba.explorer import explorer_page

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """The browser of this machine."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Callable[[str], Path]:
    """The explorer of a study that has kept its frames, as a file."""
    folder, files = tmp_path_factory.mktemp("pages"), {}

    def write(study: str) -> Path:
        if study not in files:
            files[study] = folder / f"{study}.html"
            frames = ROOT / "reports" / study / "frames"
            files[study].write_text(explorer_page(load_study(frames / "study.json"), frames))
        return files[study]

    return write


@pytest.fixture(scope="session")
def window(browser) -> Callable:
    """`window(scripts)`: one for pages with scripts and one for those without, since a new one takes longer than a page in it."""
    pages: dict[bool, Any] = {}

    def of(scripts: bool) -> Any:
        if scripts not in pages:
            context = browser.new_context(java_script_enabled=scripts, reduced_motion="reduce")
            pages[scripts] = context.new_page()
            pages[scripts].set_default_timeout(5000)
        return pages[scripts]

    return of


@pytest.fixture
def opened(window) -> Callable:
    """`with opened(file, address="#t=4", width=900, dark=False) as page`; afterwards nothing was complained of or asked for outside."""

    @contextmanager
    def open_page(
        file: Path, address: str = "", width: int = 1000, dark: bool = False, scripts: bool = True
    ) -> Iterator:
        page = window(scripts)
        page.goto("about:blank")  # the same file with another address would not be loaded anew
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if dark else "light")
        wrong, asked = [], []
        heard = {
            "console": lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
            "pageerror": lambda error: wrong.append(str(error)),
            "request": lambda request: asked.append(request.url),
        }
        for event, hear in heard.items():
            page.on(event, hear)
        page.clock.install(time=0)
        page.goto(f"{file.as_uri()}{address}")
        if scripts:
            page.locator("#explorer[data-shown]").wait_for()  # pictures are decoded
            page.clock.pause_at(60)  # from here on time passes where a test lets it
            page.clock.run_for(100)
            page.locator("#explorer[data-complete]").wait_for()  # and curves are drawn in the frames after that
        try:
            yield page
        finally:
            for event, hear in heard.items():
                page.remove_listener(event, hear)
        outside = [url for url in asked if not url.startswith((file.as_uri(), "data:"))]
        assert SimpleNamespace(wrong=wrong, outside=outside) == SimpleNamespace(wrong=[], outside=[])

    return open_page
