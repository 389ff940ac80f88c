"""The step explorer, used as a person would."""

import base64
import json
import re

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lgmamba.analysis.collect import load_study
from lgmamba.analysis.families import KINDS
from lgmamba.analysis.panel import read_panel
from lgmamba.explorer import explorer_page
from lgmamba.explorer.data import KIND_WORDS
from lgmamba.explorer.levels import BASELINE_WORDS
from lgmamba.figures.style import BASELINES
from tests.browser import looks
from tests.browser.conftest import ROOT

KEPT = [path.parent for path in sorted(ROOT.glob("reports/*/frames/curves.parquet"))]
HOSTILE = """a </script><script>document.title = "mine"</script> <img src=x onerror="document.title='mine'"> & 'b'"""


def canvas(page, nth: int, upper: bool = True) -> np.ndarray:
    """(H, W, 3) uint8, what the picture of a card shows."""
    node = page.locator(".card").nth(nth).locator("canvas").nth(0 if upper else 1)
    script = """c => { const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        let text = ""; for (const value of data) text += String.fromCharCode(value);
        return [c.height, c.width, btoa(text)]; }"""
    height, width, packed = node.evaluate(script)
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(height, width, 4)[..., :3]


def levels(study: str, frame: str, **which) -> pl.DataFrame:
    """The rows of a kept frame."""
    return pl.read_parquet(ROOT / f"reports/{study}/frames/{frame}.parquet").filter(**which)


def curves(study: str) -> dict[str, dict[int, float]]:
    """Run -> step -> level, from the frame."""
    rows = levels(study, "figure_curves", method="model")
    return {run[0]: dict(zip(here["step"], here["psnr"], strict=True)) for run, here in rows.group_by("run")}


def text_of(page, selector: str) -> str:
    return page.locator(selector).inner_text().replace("\u202f", "")


def stands_out(node) -> bool:
    """Whether a text has the colour of what lies beyond training."""
    script = """n => getComputedStyle(n).color === getComputedStyle(Object.assign(document.body.appendChild(
        document.createElement("i")), { style: "color: var(--beyond)" })).color"""
    return node.evaluate(script)


@pytest.mark.parametrize(("study", "run", "t"), [("omniglot", "fixed_1024", 4096), ("cifar10", "uniform_64", 256)])
def test_what_is_drawn_is_what_the_frames_hold(opened, written, study, run, t):
    panel = read_panel(ROOT / f"reports/{study}/frames/panel.safetensors")
    with opened(written(study), f"#i=2&t={t}&runs={run}") as page:
        card = page.locator(".card").nth(2)
        assert card.locator("h3").inner_text() == run
        assert card.locator("figcaption").inner_text() == f"{panel.psnr(run, t, 1):.1f} dB"
        want = np.round(255 * panel.reconstruction(run, t, 1)).transpose(1, 2, 0)
        assert np.abs(canvas(page, 2).astype(int) - want).max() <= 1
        seen = panel.mask(t, 1)
        target = panel.targets[1].transpose(1, 2, 0) + np.zeros(3, np.uint8)
        np.testing.assert_array_equal(canvas(page, 0), target)
        np.testing.assert_array_equal(canvas(page, 1)[seen], target[seen])
        assert (canvas(page, 1)[~seen][:, 2] >= 237).all()  # the pattern of "not read"
        ages, tones = panel.ages(t, 1), canvas(page, 1, upper=False).astype(int).sum(axis=2)
        fresh, old = (tones[ages == some].mean() for some in (0, ages.max()))
        assert fresh > old
        worst = np.unravel_index(np.abs(want - target).sum(axis=2).argmax(), seen.shape)
        errors = canvas(page, 2, upper=False).astype(int)[..., 1]  # of its colours, green always grows with the error
        assert errors[worst] >= np.quantile(errors, 0.9)


def test_pictures_come_before_all_that_stands_below_them(browser, written):
    record = """new MutationObserver((_, seen) => { seen.disconnect();
        window.atFirst = { plots: document.querySelectorAll(".u-over, .map").length, library: typeof uPlot,
            painted: [...document.querySelectorAll(".card canvas")].every((c) =>
                c.getContext("2d").getImageData(0, 0, c.width, c.height).data.every((value, k) => k % 4 < 3 || value === 255)) };
        }).observe(document, { subtree: true, attributeFilter: ["data-shown"] })"""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(record)
    page.goto(written("omniglot").as_uri())
    page.locator("[data-complete]").wait_for()
    assert page.evaluate("window.atFirst") == {"plots": 0, "library": "undefined", "painted": True}
    assert page.locator(".u-over, .map").count() == 1 + 3
    context.close()
    text = written("omniglot").read_text()
    scripts = [text.index(part) for part in ("const DATA", "/* uPlot")]
    sheets = [match.start() for match in re.finditer('id="sheet-', text)]
    assert [sum(at < script for at in sheets) for script in scripts] == [3, len(sheets)]


def test_the_sentence_says_what_the_curves_do(opened, written):
    levels, kept = curves("omniglot"), read_panel(ROOT / "reports/omniglot/frames/panel.safetensors").steps
    with opened(written("omniglot"), "#t=256&runs=fixed_1024,uniform_1024") as page:
        (now, first), (many, second) = (
            (levels[run][256], levels[run][1024] - levels[run][256]) for run in ("fixed_1024", "uniform_1024")
        )
        want = (
            f"At t = 256, fixed_1024 (specialist) has {now:.1f} dB, {first:.1f} dB below its level at L0 = 1024; "
            f"uniform_1024 (generalist) has {many:.1f} dB, {second:.1f} dB below."
        )
        assert text_of(page, "#sentence") == want
        page.clock.run_for(1000)
        assert text_of(page, "[aria-live=polite]") == want
        for _ in range(kept.index(256), kept.index(1024)):
            page.keyboard.press("ArrowRight")
        page.clock.run_for(100)
        words = text_of(page, "#sentence")
        assert f"fixed_1024 (specialist) has {levels['fixed_1024'][1024]:.1f} dB, at its training length; " in words
        assert f"has {levels['uniform_1024'][1024]:.1f} dB, at its longest training length." in words


def test_slider_and_keys_move_along_the_steps(opened, written):
    with opened(written("cifar10"), "#t=64") as page:
        slider = page.get_by_role("slider", name="Step t")
        assert slider.get_attribute("aria-valuetext") == "t = 64 = L0"
        before = canvas(page, 2)
        slider.press("ArrowRight")
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 128"
        assert slider.get_attribute("aria-valuetext") == "t = 128 = 2 L0"
        assert not np.array_equal(canvas(page, 2), before)
        slider.fill("0")
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 2"
        page.locator("h1").click()  # away from the slider: the keys go on
        for key, want in (("End", "t = 1600"), ("ArrowLeft", "t = 256"), ("Home", "t = 2")):
            page.keyboard.press(key)
            page.clock.run_for(100)
            assert text_of(page, "#step") == want
        page.get_by_role("button", name="One stop on").click()
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 4"


RELATIONS = [
    ("fixed_1024", 1, "= L0 / 1024"),
    ("fixed_1024", 11, "before L0"),
    ("fixed_1024", 1536, "= 1.5 L0"),
    ("fixed_1024", 1133, "beyond L0"),
    ("fixed_1024", 25600, "= 25 L0"),
    ("fixed_64,fixed_1024", 32, "before every L0"),
    ("fixed_64,fixed_1024", 256, "L0: beyond 64, before 1024"),
    ("fixed_64,fixed_1024", 1024, "L0: beyond 64, at 1024"),
    ("fixed_64,fixed_1024", 4096, "beyond every L0"),
]


def test_a_step_is_told_against_training_lengths_where_that_is_exact(opened, written):
    with opened(written("omniglot"), "#t=64&runs=uniform_64") as page:
        for runs, t, want in RELATIONS:
            page.evaluate("address => { location.hash = address }", f"#t={t}&runs={runs}")
            page.clock.run_for(100)
            assert text_of(page, "#step") == f"t = {t}"
            assert text_of(page, "#relation") == want
            stands_out_beyond = "beyond" in page.locator("#relation").get_attribute("class")
            assert stands_out_beyond == (t > 1024)


def test_models_side_by_side_have_different_colours(opened, written):
    runs = [
        "fixed_64",
        "fixed_1024",
        "uniform_1024",
        "token_1024",
    ]  # in figures the first and last differ in dashes alone
    swatches = "nodes => nodes.map(n => n.querySelector('line').getAttribute('stroke'))"
    with opened(written("omniglot"), f"#runs={','.join(runs)}") as page:
        of_cards = page.locator(".card .swatch").evaluate_all(swatches)
        assert len(set(of_cards)) == 4
        assert page.locator(".chip:has(:checked) .swatch").evaluate_all(swatches) == of_cards
        dots = page.locator(".u-over .dot").evaluate_all("nodes => nodes.map(n => n.style.background)")
        assert dots == [f"rgb({', '.join(str(int(c[k : k + 2], 16)) for k in (1, 3, 5))})" for c in of_cards]
        page.get_by_role("checkbox", name=re.compile("^fixed_64 ")).uncheck()
        page.clock.run_for(100)
        alone = page.locator(".card .swatch").evaluate_all(swatches)
        assert alone == [*of_cards[1:3], of_cards[0]]  # that of the figures, where nobody else has it


def test_the_page_leads_to_the_answer_and_says_what_became_of_the_claims(opened, written):
    claims = dict(levels("omniglot", "contrasts").select("claim", "verdict").rows())
    for scripts in (True, False):
        with opened(written("omniglot"), scripts=scripts) as page:
            link = page.get_by_role("link", name="report").first
            assert link.get_attribute("href") == "report.html#answer"
            assert 'id="answer"' in (ROOT / "reports/omniglot/report.html").read_text()
            page.locator(".answer summary").click()
            found = page.locator(".answer li").all_inner_texts()
            by_verdict = [dict([item.split(": ", 1)]) for item in found]
            told = {
                claim: verdict
                for item in by_verdict
                for verdict, said in item.items()
                for claim in said.rstrip(".").split("; ")
            }
            assert told == {claim: verdict.capitalize() for claim, verdict in claims.items()}
    with opened(written("robustness")) as page:  # too few trainings for verdicts
        assert page.locator(".answer a").is_visible()
        assert page.locator(".answer details").count() == 0


def test_words_and_grey_lines_are_explained(opened, written):
    assert set(BASELINE_WORDS) == set(BASELINES)
    assert set(KIND_WORDS) == set(KINDS)
    with opened(written("omniglot")) as page:
        assert page.locator("#kinds").inner_text().count(":") == 3 + 2  # three kinds, T and the token
        said = page.locator("#no-model b").all_inner_texts()
        assert said == ["Mean image", "Ideal memory", "Nearest pixel read", "Paper alone"]
    with opened(written("omniglot"), width=400) as page:
        assert not page.locator("#kinds").evaluate("node => node.open")
    with opened(written("recall_mqar"), "#t=64") as page:  # all of one kind
        assert page.locator("#kinds").count() == 0
        assert "generalist" not in page.locator("body").inner_text()
    with opened(written("classified_digits")) as page:
        assert page.locator("#no-model").count() == 1  # below the first of its two plots


def test_maps_have_a_key_and_show_no_error_where_little_is_left(opened, written):
    rows = levels("omniglot", "figure_retention", run="fixed_1024", step=25600).sort("age_low")
    pixels, fresh = rows["count"].sum(), rows.filter(age_low=0)["count"][0]
    data = json.loads(re.search(r'id="data">(.*?)</script>', written("omniglot").read_text(), re.S)[1])
    kept = next(run["map"] for run in data["runs"] if run["name"] == "fixed_1024")
    cells = np.reshape(kept["cells"], (-1, 3))
    tones = {octave: tone for at, octave, tone in cells.tolist() if kept["steps"][at] == 25600}
    for age, high, count in rows.select("age_low", "age_high", "count").rows():
        once = pixels if age < 0 else fresh * (min(high, 25599) - age + 1)
        assert (tones[-1 if age < 0 else int(np.log2(age + 1))] < 0) == (count < 0.05 * once), age
    assert min(tones.values()) < 0 <= max(tones.values())
    with opened(written("omniglot")) as page:
        key = page.locator("section[aria-labelledby=memory] .legends").inner_text()
        low, high = map(float, re.search(r"([\d.]+)\s+([\d.]+)\s+mean squared error", key).groups())
        shown = levels("omniglot", "figure_retention")["mse"]
        assert shown.min() < low < high < shown.max()
        assert "under 5 %" in key
        assert "gradient" in page.locator("#map-ramp").evaluate("node => getComputedStyle(node).backgroundImage")


def test_the_patch_of_a_step_is_framed_and_said_to_be_of_one_colour(opened, written):
    panel = read_panel(ROOT / "reports/omniglot/frames/panel.safetensors")
    with opened(written("omniglot"), "#t=1") as page:
        card, plain_patches = page.locator(".card").first, set()
        frame = card.locator(".frame").nth(1)
        assert frame.evaluate("n => getComputedStyle(n).borderTopColor") == "rgb(232, 89, 12)"
        for _ in panel.steps[:25]:
            patch = canvas(page, 0, upper=False)
            alike = len(np.unique(patch)) == 1
            assert card.locator("p").inner_text() == f"patch read at t: 4 × 4 pixels{', all alike' if alike else ''}"
            plain_patches.add(alike)
            page.keyboard.press("ArrowRight")
            page.clock.run_for(100)
        assert plain_patches == {True, False}


def test_the_bar_at_the_bottom_of_a_phone_covers_no_picture_that_is_gone_to(opened, written):
    with opened(written("omniglot"), width=400) as page:
        for picture in page.locator("#pictures canvas").all():
            picture.evaluate("node => node.scrollIntoView({ block: 'nearest' })")
            box, bar = picture.bounding_box(), page.locator(".time").bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= bar["y"]


def test_playing_goes_to_the_end_and_stops_when_somebody_takes_over(opened, written):
    with opened(written("cifar10"), "#t=2") as page:
        page.keyboard.press("Space")
        page.clock.run_for(3 * 280 + 50)
        assert text_of(page, "#step") == "t = 16"
        assert page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true"
        page.keyboard.press("ArrowLeft")
        page.clock.run_for(2000)
        assert text_of(page, "#step") == "t = 8"
        page.get_by_role("button", name="Play").click()
        page.clock.run_for(10000)
        assert text_of(page, "#step") == "t = 1600"
        assert page.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"


def test_a_link_leads_to_the_view_that_it_was_made_at(opened, written):
    file = written("omniglot")
    with opened(file) as page:
        page.get_by_role("checkbox", name="uniform_64").check()
        page.get_by_role("checkbox", name="token_1024").uncheck()
        page.get_by_role("radio", name="Image 2").check()
        page.keyboard.press("End")
        page.get_by_role("slider").press("End")
        page.clock.run_for(1000)
        link = page.get_by_role("link", name="Link to this view").get_attribute("href")
        assert link == "#i=2&t=25600&runs=fixed_1024,uniform_64,uniform_1024"
        assert page.url.endswith(link)
        shown = page.locator(".card h3").all_inner_texts()
    with opened(file, link) as page:
        assert page.locator(".card h3").all_inner_texts() == shown
        assert text_of(page, "#step") == "t = 25600"
        assert page.get_by_role("radio", name="Image 2").is_checked()
        page.evaluate("location.hash = '#i=1&t=256&runs=fixed_64'")
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 256"
        assert page.locator(".card h3").all_inner_texts()[2:] == ["fixed_64"]


@pytest.mark.parametrize("address", ["#t=0&i=99&runs=nobody", "#t=-5&i=x", "#%", "#runs=__proto__,constructor&t=1e9"])
def test_an_address_that_means_nothing_shows_what_comes_nearest(opened, written, address):
    with opened(written("omniglot"), address) as page:
        assert page.locator(".card").count() == 5
        assert text_of(page, "#step") == "t = 256"


def test_a_click_on_the_curves_or_on_a_map_jumps_there(opened, written):
    with opened(written("cifar10"), "#t=2") as page:
        page.locator(".u-over").click(position={"x": 5, "y": 40})
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 2"
        box = page.locator(".u-over").bounding_box()
        page.locator(".u-over").click(position={"x": box["width"] - 2, "y": 40})
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 1600"
        cursor = page.locator(".u-under .cursor").bounding_box()
        assert cursor["x"] == pytest.approx(box["x"] + box["width"], abs=3)
        on_map = page.locator(".map").first
        on_map.click(position={"x": on_map.bounding_box()["width"] * 0.05, "y": 20})
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 2"


def test_four_models_and_no_more_at_least_one(opened, written):
    with opened(written("cifar10"), "#runs=fixed_4,fixed_8,fixed_16") as page:
        page.get_by_role("checkbox", name="fixed_64").check()
        page.clock.run_for(100)
        assert page.locator(".card").count() == 2 + 4
        assert page.get_by_role("checkbox", name="fixed_32").is_disabled()
        for name in ("fixed_4", "fixed_8", "fixed_16"):
            page.get_by_role("checkbox", name=re.compile(f"^{name} ")).uncheck()
        page.get_by_role("checkbox", name="fixed_64").click()
        page.clock.run_for(100)
        assert page.get_by_role("checkbox", name="fixed_64").is_checked()
        assert page.locator(".card").count() == 2 + 1


def assert_something_everywhere(page, shot: Image.Image) -> None:
    """Each part of the page, as a screenshot shows it, has something on its ground, and none lies on the next."""
    whole = np.asarray(shot).astype(int)
    below = 0
    for part in (".choices", "#sentence", "#pictures", ".plot", "#maps", "footer"):
        box = {name: int(value) for name, value in page.locator(part).first.bounding_box().items()}
        assert below <= box["y"] + 1, part
        below = box["y"] + box["height"]
        seen = whole[box["y"] : below, box["x"] : box["x"] + box["width"]]
        assert (np.abs(seen - whole[0, 0]).sum(axis=2) > 30).mean() > 0.04, part


@pytest.mark.parametrize(("width", "dark"), [(400, False), (400, True), (900, False), (1600, True)])
def test_it_fits_and_can_be_read_at_every_width(opened, written, width, dark):
    with opened(written("omniglot"), width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page_colour, text_colour = page.evaluate(
            "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).slice(0, 3).map(Number))"
        )
        assert (sum(page_colour) < 150) == dark
        assert (sum(text_colour) > 600) == dark
        tops = [box["y"] for box in (page.locator(".card").nth(k).bounding_box() for k in range(5))]
        assert len(set(tops)) == (2 if width == 400 else 1)  # side by side, or in two rows
        bar = page.locator(".time").bounding_box()
        assert 0 <= bar["y"] <= 800 - bar["height"] + 1 if width == 400 else True  # always at hand on a phone
        label = page.locator(".card").nth(2).locator("canvas").first.bounding_box()
        assert label["width"] > 80
        shot = looks.screenshot(page)
        assert_something_everywhere(page, shot)
        assert looks.wrong(page, shot, f"{width}_{'dark' if dark else 'light'}") == []


BROKEN = {
    "blank": (set(looks.PARTS), "canvas { visibility: hidden }"),
    "cards below each other": ({"#pictures"}, "#pictures { display: block !important }"),
    "without its style": ({"#pictures", ".u-over"}, None),
}


def test_a_page_that_falls_apart_looks_wrong_and_one_in_other_letters_does_not(opened, written):
    with opened(written("omniglot"), width=900) as page:
        style = page.add_style_tag(content="* { font-family: serif !important } body { font-size: 17px !important }")
        assert looks.wrong(page, looks.screenshot(page), "900_light") == []
        for what, (parts, css) in BROKEN.items():
            style.evaluate("(node, css) => (node.textContent = css)", css or "")
            page.evaluate("off => document.querySelectorAll('style').forEach((s) => (s.disabled = off))", css is None)
            said = looks.wrong(page, looks.screenshot(page), "900_light")
            assert parts <= {words.partition(" ")[0] for words in said}, what


def test_it_can_be_read_without_scripts(opened, written):
    with opened(written("omniglot"), scripts=False) as page:
        table = page.locator("table.still")
        assert table.is_visible()
        assert page.locator("#explorer").is_hidden()
        assert table.locator("tbody tr").count() == 3
        assert table.locator("img").count() >= 3 * 5
        assert all(table.locator("img").evaluate_all("nodes => nodes.map(node => node.naturalWidth > 0)"))
        assert (
            "PSNR of fixed_1024 against its level at L0 = 1024: 2.6 dB below at t = 256"
            in page.locator("noscript").inner_text()
        )


def test_controls_have_names_and_show_where_the_focus_is(opened, written):
    with opened(written("omniglot")) as page:
        unnamed = """() => [...document.querySelectorAll("#explorer :is(input, button, a, canvas:not([role=img] canvas))")].filter(
            (n) => !(n.ariaLabel || n.textContent.trim() || (n.labels && n.labels.length))).map((n) => n.outerHTML)"""
        assert page.evaluate(unnamed) == []
        seen = []
        for _ in range(8):
            page.keyboard.press("Tab")
            ring = """() => { const n = document.activeElement;
                const looks = [n, n.nextElementSibling, n.closest("label")].filter(Boolean).map((m) => getComputedStyle(m));
                return [n.name || n.id || n.tagName, looks.some((s) => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)]; }"""
            seen.append(page.evaluate(ring))
        assert all(visible for _, visible in seen), seen
        assert {"image", "run"} < {name for name, _ in seen}


def test_what_a_study_says_of_itself_is_text(opened, tmp_path):
    frames = ROOT / "reports/cifar10/frames"
    values = json.loads((frames / "study.json").read_text())
    values["report"]["title"] = HOSTILE[:150]
    values["runs"]["fixed_64"]["note"] = HOSTILE
    study = tmp_path / "study.json"
    study.write_text(json.dumps(values))
    file = tmp_path / "explorer.html"
    file.write_text(explorer_page(load_study(study), frames))
    with opened(file) as page:
        assert page.locator("h1").inner_text() == HOSTILE[:150]
        assert page.title() == f"{HOSTILE[:150]}: step by step"
        assert page.locator(".card").count() == 5


def test_scripts_that_are_not_the_pages_own_do_not_run(opened, written, tmp_path):
    file = tmp_path / "changed.html"
    file.write_text(
        written("cifar10").read_text().replace("</main>", "<script>document.title = 'mine'</script></main>")
    )
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(file) as page:
        assert page.title().endswith("step by step")


def test_one_training_is_shown_where_one_is_chosen(opened, written):
    seed = {"run": "fixed_1024", "mode": "prefix", "method": "model", "seed": 3}
    own = dict(levels("omniglot", "curves", **seed).select("step", "psnr").rows())
    with opened(written("omniglot"), "#t=256&runs=fixed_1024,uniform_1024") as page:
        page.get_by_role("combobox", name="Training").select_option("3")
        page.clock.run_for(1000)
        words = text_of(page, "#sentence")
        assert words.startswith(
            f"At t = 256, in the training with seed 3, fixed_1024 (specialist) has {own[256]:.1f} dB, "
            f"{own[1024] - own[256]:.1f} dB below its level at L0 = 1024"
        )
        assert "lines: training with seed 3, bands: lowest to highest of all" in text_of(page, "#about-psnr")
        note = page.locator("#about-pictures")
        assert note.inner_text() == "Pictures: trainings with seed 0. None are kept of seed 3."
        assert note.bounding_box()["y"] < page.locator("#pictures").bounding_box()["y"]
        assert stands_out(note)
        assert page.url.endswith("&seed=3")
        page.get_by_role("combobox", name="Training").select_option("9")  # of the runs of one contrast alone
        page.clock.run_for(100)
        words = text_of(page, "#sentence")
        assert "fixed_1024 (specialist) was not trained with seed 9; uniform_1024 (generalist) was not" in words
        page.get_by_role("checkbox", name=re.compile("^token_1024 ")).check()
        page.clock.run_for(100)
        assert re.search(
            r"; token_1024 \(length-adaptive\) has .* its level at L0 = 1024\.$", text_of(page, "#sentence")
        )
        page.get_by_role("combobox", name="Training").select_option("")
        page.clock.run_for(100)
        assert "in the training" not in text_of(page, "#sentence")
        assert note.inner_text() == "Pictures: trainings with seed 0."
        assert not stands_out(note)


def test_levels_under_a_remedy_stand_beside_those_as_trained(opened, written):
    found = {
        remedy: levels("cifar10_remedies", "remedies", run="uniform_64", order="permutation", remedy=remedy, step=1600)
        for remedy in ("dt_root", "vanilla")
    }
    remedied, trained = (found[name]["psnr"][0] for name in ("dt_root", "vanilla"))
    with opened(written("cifar10_remedies"), "#t=1600&runs=adaptive_64") as page:
        assert page.locator("#remedied").is_hidden()
        page.get_by_role("combobox", name="Remedy").select_option("dt_root")
        page.clock.run_for(1000)
        assert page.url.endswith("&runs=adaptive_64,uniform_16&remedy=dt_root")  # with one that it was tried on
        assert "adaptive_64 was not tried" in text_of(page, "#sentence")
        page.get_by_role("checkbox", name=re.compile("^uniform_64 ")).check()
        page.clock.run_for(100)
        want = f"uniform_64 is {remedied - trained:.1f} dB above itself as trained ({remedied:.1f}, as trained {trained:.1f} dB)"
        assert want in text_of(page, "#sentence")
        assert "no pictures" in text_of(page, "#about-remedy")
        assert "None are kept under a remedy." in text_of(page, "#about-pictures")
        assert page.locator("#remedied-psnr .u-over").is_visible()
        page.get_by_role("combobox", name="Order").select_option("replacement")
        page.get_by_role("combobox", name="Training").select_option("1")
        page.clock.run_for(100)
        assert "Trainings are not kept apart here" in text_of(page, "#about-remedy")
        assert "read in order permutation" in text_of(page, "#about-maps")


def test_accuracy_is_seen_where_a_class_is_named(opened, written):
    about = {"mode": "prefix", "method": "model", "run": "uniform_w100"}
    mean = dict(levels("classified_digits", "summary", **about).select("step", "accuracy").rows())
    with opened(written("classified_digits"), "#t=64&runs=uniform_w100,uniform_w0&remedy=windows&seed=2") as page:
        assert page.locator(".u-under .cursor").count() == 4  # both levels, as trained and under the remedy
        lefts = {round(box.bounding_box()["x"]) for box in page.locator(".u-under .cursor").all()}
        assert len(lefts) == 1
        assert "Trainings are not" not in text_of(page, "#about-remedy")
        page.get_by_role("combobox", name="Training").select_option("")
        page.get_by_role("combobox", name="Remedy").select_option("")
        page.clock.run_for(100)
        want = f"and names {mean[64]:.0f} % of the classes rightly, at L0 {mean[16]:.0f} %"
        assert want in text_of(page, "#sentence").partition("uniform_w100")[2].partition(";")[0]
        assert page.locator("#remedied").is_hidden()
    with opened(written("classified_digits"), scripts=False) as page:
        assert f", {mean[16]:.0f} %" in page.locator("table.still").inner_text()


def test_what_queries_ask_for_can_be_outlined(opened, written):
    with opened(written("omniglot")) as page:
        outlines = page.locator(".queries").first
        assert outlines.is_hidden()
        page.get_by_role("checkbox", name="outline what each query asks for").check()
        assert outlines.is_visible()
        assert outlines.locator("path").get_attribute("d").count("M") == (128 // 4) ** 2
    with opened(written("cifar10")) as page:
        assert page.locator("#queries").count() == 0


def test_a_task_without_pictures_has_its_curves(opened, written):
    mean = dict(
        levels("recall_mqar", "summary", run="mamba2", mode="prefix", method="model").select("step", "psnr").rows()
    )
    with opened(written("recall_mqar"), "#t=64&runs=mamba2") as page:
        assert page.locator("#pictures, #images, #maps").count() == 0
        assert page.locator(".u-over").is_visible()
        page.get_by_role("slider").press("End")
        page.clock.run_for(100)
        assert text_of(page, "#step") == "t = 1600"
        want = f"At t = 1600, mamba2 has {mean[1600]:.1f} %, {mean[64] - mean[1600]:.1f} pp below its level at L0 = 64."
        assert text_of(page, "#sentence") == want
    with opened(written("recall_mqar"), scripts=False) as page:
        assert page.locator("table.still").is_visible()


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.parent.name)
def test_pages_are_small(written, folder):
    page = written(folder.parent.name)
    assert page.stat().st_size < 1.5e6
    asked, there = (
        set(re.findall(pattern, page.read_text())) for pattern in (r'"sheet":"([^"]+)"', r'id="(sheet-[^"]+)"')
    )
    assert asked == there  # no picture that nobody can look at, none that is missing
