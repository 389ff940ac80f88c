"""The page of `dvc plots show`: what dvc.yaml and the templates of .dvc/plots make of the kept figures' numbers."""

import shutil

import pytest
import yaml

from lgmamba.analysis import figures_of
from lgmamba.config.study import load_params
from tests.browser.conftest import ROOT
from tests.workflow.checkouts import Checkout

SIZES = """() => Object.fromEntries([...document.querySelectorAll("body > div")].map(box => {
    const drawn = box.querySelector("svg.marks, img").getBoundingClientRect();
    return [box.id, [drawn.width, drawn.height]]; }))"""


@pytest.fixture(scope="module")
def plots(tmp_path_factory) -> Checkout:
    """A checkout with no more than DVC reads for its plots, and their page."""
    checkout = Checkout(tmp_path_factory.mktemp("plots"))
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        (checkout.path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, checkout.path / name)
    study = load_params(ROOT / "params.yaml").study
    figures = f"reports/{study}/figures"
    shutil.copytree(ROOT / figures, checkout.path / figures, ignore=shutil.ignore_patterns("*.pdf"))
    checkout.git("init", "--quiet", ".")
    checkout.run("dvc", "plots", "show", "--out", "page")
    return checkout


def test_the_page_draws_every_figure_below_its_title_and_asks_nobody(window, plots):
    page, wrong, asked = window(True), [], []
    heard = {
        "console": lambda message: wrong.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: wrong.append(str(error)),
        "request": lambda request: asked.append(request.url),
    }
    for event, hear in heard.items():
        page.on(event, hear)
    entries = [entry for listed in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for entry in listed.items()]
    titles = {name: entry["title"].splitlines() for name, entry in entries if entry is not None}
    page.set_viewport_size({"width": 1200, "height": 800})
    page.goto((plots.path / "page" / "index.html").as_uri())
    page.wait_for_function(f"document.querySelectorAll('body > div svg.marks').length == {len(titles)}")
    sizes = page.evaluate(SIZES)
    words = {name: page.locator(f"#{name} svg.marks").inner_html() for name in titles}
    order = list(sizes)
    width = page.evaluate("document.documentElement.scrollWidth")
    page.goto("about:blank")
    for event, hear in heard.items():
        page.remove_listener(event, hear)

    params = load_params(ROOT / "params.yaml")
    assert [name for name in order if name in titles] == list(figures_of(params))
    assert all(200 < drawn_width < 1100 and 150 < height < 1000 for drawn_width, height in sizes.values()), sizes
    for name, lines in titles.items():
        assert all(line in words[name] for line in lines)
        assert not any(missing in words[name] for missing in ("NaN", "undefined", "null<", "Infinity"))
    for name in ("task", "gallery"):  # the pictures stand below their numbers
        assert order[order.index(name) + 1] == f"reports_{params.study}_figures_{name}_png"
    assert width == 1200 and wrong == []
    assert all(url.startswith(plots.path.as_uri()) or url == "about:blank" for url in asked)
