"""How soon the step explorer shows its first picture, and how many frames a second it draws while somebody slides.

    python benchmarks/explorer.py [--study omniglot] [--page reports/omniglot/explorer.html] [--out reports/benchmarks] [--docs docs/explorer.md]

Writes explorer.{json,md} and the block `explorer` of docs/explorer.md. Needs playwright and a chromium on PATH; nothing is drawn by a
GPU. Every row is one width of the window, on the processor as it is or slowed by the browser (CPU throttling) as a phone is slower. The
page is opened as it is, and slid with as many models as it shows at most. The browser's own clocks are read:

    first picture   from the start of navigation until the frame after the one in which every picture of the view was painted; the
                    median and the longest of several openings, each in a new window
    frames          times between calls of requestAnimationFrame while the mouse draws the slider from end to end and back; a frame
                    is late when half a frame's time or more is missing to the one before. The first way there is left out: on it the
                    pictures' sheets are decoded (they are once for each image and model)
    work            processor time of the page's main thread (`TaskDuration` in thread ticks), which other programs change little: until
                    the first picture, and by the frames drawn
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from lgmamba.files import to_json, write_atomic
from lgmamba.provenance import cpu_name, git_state
from lgmamba.report import update_block

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FRAME_MS = 1000 / 60
REST_MS = 500
"""Before a page is opened in a new window, whose own processes start meanwhile."""
WAYS = 3
"""From one end of the slider to the other, the first one left out."""
MOVES = 90
"""Places of the mouse on one way: more than there are steps, so that none is left out."""
ROWS = [(width, slower) for slower in (1, 4) for width in (400, 1600)]
FIRST_PICTURE = """
const seen = new MutationObserver(() => {
  seen.disconnect();
  requestAnimationFrame(() => requestAnimationFrame((now) => console.debug("first picture", now)));
});
seen.observe(document, { subtree: true, attributeFilter: ["data-shown"] });
"""
FRAMES = """
window.frames_ = [];
const tick = (now) => { window.frames_.push(now); window.counted = requestAnimationFrame(tick); };
window.counted = requestAnimationFrame(tick);
"""


def main() -> None:
    """Measure every row, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="omniglot", help="whose explorer below reports/")
    parser.add_argument("--page", type=Path, help="another file instead")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/explorer.md")
    parser.add_argument("--openings", type=int, default=7)
    args = parser.parse_args()
    file = (args.page or ROOT / "reports" / args.study / "explorer.html").resolve()
    with sync_playwright() as playwright:
        browser = launched(playwright)
        version = browser.version
        rows = [measured(browser, file, width, slower, args.openings) for width, slower in ROWS]
        browser.close()
    about = {
        "page": file.name if args.page else f"reports/{args.study}/explorer.html",
        "mb": file.stat().st_size / 1e6,
        "browser": f"chromium {version}, without a screen or GPU",
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "nice": os.nice(0),
        "commit": git_state()["commit"],
    }
    result = {"rows": rows, "about": about}
    write_atomic(args.out / "explorer.json", to_json(result))
    write_atomic(args.out / "explorer.md", "# The step explorer in a browser\n\n" + text(result))
    update_block(args.docs, "explorer", text(result))
    print(json.dumps(rows, indent=1))


def launched(playwright) -> Browser:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


def measured(browser: Browser, file: Path, width: int, slower: int, openings: int) -> dict[str, float]:
    """One row: first pictures in milliseconds, frames a second, late frames as a share, work in milliseconds a frame."""
    firsts, works = [], []
    for _ in range(openings):
        with opened(browser, file, width, slower) as page:
            works.append(page.work_ms)
            firsts.append(page.first_picture_ms)
    with opened(browser, file, width, slower, address=most_models(browser, file)) as (page, session, *_):
        slide(page, 1)
        page.evaluate(FRAMES)
        before = working(session)
        steps = slide(page, WAYS - 1)
        work = working(session) - before
        times = page.evaluate("(cancelAnimationFrame(window.counted), window.frames_)")
    gaps = [b - a for a, b in pairwise(times)]
    return {
        "width": width,
        "slower": slower,
        "first_picture_ms": statistics.median(firsts),
        "first_picture_longest_ms": max(firsts),
        "first_picture_work_ms": statistics.median(works),
        "frames": len(gaps),
        "frames_a_second": 1000 * len(gaps) / (times[-1] - times[0]),
        "late": sum(gap > 1.5 * FRAME_MS for gap in gaps) / len(gaps),
        "longest_frame_ms": max(gaps),
        "work_ms": 1000 * work / len(gaps),
        "steps_shown": steps,
    }


class Opened(NamedTuple):
    """A page whose pictures are there, the browser's own measurements of it, when they came, and what it had worked until then."""

    page: Page
    session: CDPSession
    first_picture_ms: float
    work_ms: float


@contextmanager
def opened(browser: Browser, file: Path, width: int, slower: int, address: str = "") -> Iterator[Opened]:
    """The page in a new window once its pictures are there."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    page.add_init_script(FIRST_PICTURE)
    page.wait_for_timeout(REST_MS)
    # told by a message: to look for something in the page, playwright would run a long script in it meanwhile
    with page.expect_console_message(lambda message: message.text.startswith("first picture")) as told:
        page.goto(f"{file.as_uri()}{address}", wait_until="commit")
    work = 1000 * working(session)
    yield Opened(page, session, float(told.value.text.split()[-1]), work)
    context.close()


def most_models(browser: Browser, file: Path) -> str:
    """Address of the view with the first models of the page, as many as it shows at most."""
    with opened(browser, file, 1000, 1) as (page, *_):
        data = json.loads(page.locator("#data").inner_text())
    shown = dict.fromkeys([*data["shown"], *(run["name"] for run in data["runs"])])
    return f"#runs={','.join(list(shown)[: data['most']])}"


def slide(page: Page, ways: int) -> int:
    """Draws the slider from one end to the other so many times; how many different steps the page has come by."""
    slider = page.locator("#slider")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    y, ends = box["y"] + box["height"] / 2, (box["x"] + 9, box["x"] + box["width"] - 9)
    page.evaluate(
        """(window.came = new Set(), document.getElementById("slider").addEventListener("input", (e) => window.came.add(e.target.value)))"""
    )
    page.mouse.move(ends[0], y)
    page.mouse.down()
    for way in range(ways):
        begin, end = ends if way % 2 == 0 else ends[::-1]
        for move in range(MOVES):
            page.mouse.move(begin + (end - begin) * (move + 1) / MOVES, y)
    page.mouse.up()
    return page.evaluate("window.came.size")


def working(session: CDPSession) -> float:
    """Seconds that the page's main thread has worked so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def text(result: dict) -> str:
    """The block of docs/explorer.md, and with a title the page of the benchmark."""
    about = result["about"]
    lines = [
        "| window, processor | first picture, median (longest) | work until then | frames a second while sliding | late | longest | work a frame |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["rows"]:
        cells = [
            f"{row['width']} px, {'as it is' if row['slower'] == 1 else 'slowed {slower} times'.format(**row)}",
            f"{row['first_picture_ms']:.0f} ms ({row['first_picture_longest_ms']:.0f} ms)",
            f"{row['first_picture_work_ms']:.0f} ms",
            f"{row['frames_a_second']:.0f}",
            f"{100 * row['late']:.1f} % of {row['frames']}",
            f"{row['longest_frame_ms']:.0f} ms",
            f"{row['work_ms']:.1f} ms",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"`{about['page']}`, {about['mb']:.2f} MB, opened as it is, and slid with as many models as it shows, "
        f"in {about['browser']}, on {about['cores']} cores "
        f"of {about['cpu']} shared with other programs (load {about['load']:.1f}, niceness {about['nice']}). "
        f"By `benchmarks/explorer.py` at commit `{about['commit'][:10]}`.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
