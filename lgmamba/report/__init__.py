"""The report: the answer and a page of details, as Markdown and as self-contained HTML, the explorer, and numbers for README and DVC.

Every number comes from a frame.
"""

import base64
import html
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import jinja2
import markdown
from markupsafe import Markup

from lgmamba.analysis import figures_of, kept_frames
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.contrasts import VERDICTS
from lgmamba.explorer import explorer_page
from lgmamba.files import to_json, write_atomic
from lgmamba.keys import report_key
from lgmamba.records import begin, checked, checked_all, finish, read_record
from lgmamba.report import wording
from lgmamba.report.context import gather, headline, metrics

TEMPLATES = Path(__file__).parent / "templates"
PAGES = {"report": "{title}", "details": "Tables and methods: {title}"}
"""Page -> its title in the browser: the answer, and everything behind it."""
FEW_COLUMNS = 6
"""Columns up to which intervals in a table are not broken in two lines."""
MANY_COLUMNS = 9
"""Columns from which on a table is wider than the text."""
WRITTEN = (
    *(f"{page}.{suffix}" for page in PAGES for suffix in ("md", "html")),
    "explorer.html",
    "headline.json",
    "metrics.json",
)
"""What a report's record is about."""


def write_report(study_json: Path, frames: Path, figures: Path, out: Path) -> None:
    """Write both pages, report and details, as .md and .html, explorer.html, headline.json and metrics.json, and last their record.

    Args:
        study_json: resolved parameters of the study.
        frames: folder written by `evaluate`.
        figures: folder with <figure>.png of every figure.
        out: folder of the report.
    Raises:
        ArtefactError: a frame or a figure is missing or damaged; says which.
    """
    params = load_study(study_json)
    names, read = figures_of(params), kept_frames(params)
    record = read_record(frames, "evaluate")
    checked_all(frames, read, "evaluate")
    figure_records = {name: read_record(figures, "figure", name) for name in names}
    pictures = {name: checked(figures, f"{name}.png", "figure", name).read_bytes() for name in names}
    context = gather(study_json, frames)
    begin(out)
    where = Path(os.path.relpath(figures, out)).as_posix()
    kind = "" if params.task.IMAGES else "plain_"  # without pictures, without what is said about them
    for page, title in PAGES.items():
        plain = render(f"{kind}{page}.md.jinja", context, rich=False, picture=lambda name: f"{where}/{name}")
        rich = render(
            f"{kind}{page}.md.jinja",
            context,
            rich=True,
            picture=lambda name: inline_png(pictures[name]),
            source=lambda name: f"{where}/{name}.png",
            width=lambda name: width_rem(pictures[name]),
        )
        write_atomic(out / f"{page}.md", plain.replace("[TOC]\n\n", ""))
        write_atomic(out / f"{page}.html", html_page(rich, title.format(title=params.report.title)))
    write_atomic(out / "explorer.html", explorer_page(params, frames))
    write_atomic(out / "headline.json", to_json(headline(context)))
    write_atomic(out / "metrics.json", to_json(metrics(context)))
    finish(report_key(params, record, read, figure_records), out, list(WRITTEN))


BLOCKS = {
    "headline": "readme.md.jinja",
    "account": "account.md.jinja",
    "psnr": "levels.md.jinja",
    "remedies": "readme_remedies.md.jinja",
    "mixers": "mixers.md.jinja",
}
"""What a README may have of a study between `<!-- generated:BLOCK:STUDY -->` and `<!-- /generated -->`."""


def update_readme(readme: Path, headline_json: Path) -> None:
    """Bring a README's blocks about one study up to date with its report.

    Raises:
        ValueError: the README has no block of the study, or one that the study has nothing for.
    """
    context = json.loads(headline_json.read_text(encoding="utf-8"))
    before = readme.read_text(encoding="utf-8")
    names = {block: f"{block}:{context['study']}" for block in BLOCKS}
    wanted = [block for block, name in names.items() if f"<!-- generated:{name} -->" in before]
    if not wanted:
        lines = " or ".join(f"`<!-- generated:{name} -->`" for name in names.values())
        raise ValueError(f"{readme}: expected a line {lines} and, below it, `<!-- /generated -->`")
    empty = [block for block in wanted if block != "headline" and context.get(block) is None]
    if empty:
        raise ValueError(
            f"{readme}: found `<!-- generated:{names[empty[0]]} -->`, but study {context['study']!r} has no {empty[0]}"
        )
    for block in wanted:
        update_block(readme, names[block], render(BLOCKS[block], context))


def update_block(readme: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- generated:NAME -->` and the next `<!-- /generated -->`.

    Raises:
        ValueError: the README lacks the markers.
    """
    block = re.compile(rf"(<!-- generated:{name} -->\n).*?(<!-- /generated -->)", re.DOTALL)
    before = readme.read_text(encoding="utf-8")
    if not block.search(before):
        raise ValueError(f"{readme}: expected a line `<!-- generated:{name} -->` and, below it, `<!-- /generated -->`")
    write_atomic(readme, block.sub(lambda match: match[1] + text.strip() + "\n" + match[2], before))


def render(template: str, context: dict[str, Any], **more: Any) -> str:
    """Fill a template; a name that it does not know is an error. Blank lines never come in twos."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    helpers = (
        wording.number,
        wording.signed,
        wording.effect,
        wording.interval,
        wording.limit,
        wording.probability,
        wording.span,
        wording.listed,
        wording.plural,
        wording.duration,
        wording.memory,
    )
    environment.filters["code"] = code_html
    environment.globals |= {helper.__name__: helper for helper in helpers} | {"DIGITS": wording.DIGITS}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**context, **more))


def html_page(text: str, title: str) -> str:
    """Markdown -> one HTML page that asks for nothing from outside."""
    body = markdown.markdown(text, extensions=["tables", "md_in_html", "toc", "fenced_code", "sane_lists"])
    body = re.sub(rf"<td>({'|'.join(VERDICTS)})(?=</td>| \(\d)", _badge, body)
    parts = re.split("(<table>.*?</table>)", body, flags=re.DOTALL)
    body = "".join(_table(part) if part.startswith("<table>") else _whole_intervals(part) for part in parts)
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, autoescape=True
    )
    return environment.get_template("page.html.jinja").render(body=Markup(body), title=title, css=Markup(css))


def _table(table: str) -> str:
    """A table in its box, with names that may be broken after an underscore; one of many columns has the page's full width. Intervals
    stay whole but where there are more than few columns, which have no room to spare.
    """
    columns = table.count("</th>")
    text = table if columns > FEW_COLUMNS else _whole_intervals(table)
    text = re.sub(r"(?<=\w)_(?=\w)(?![^<>]*>)", "_<wbr>", text)  # not within tags
    return f'<div class="table{" wide" if columns >= MANY_COLUMNS else ""}">{text}</div>'


def _whole_intervals(text: str) -> str:
    """Intervals that are not broken in two lines."""
    return re.sub(r"(?<=\[)([\u2212+]?[\d.]+), (?=[\u2212+]?[\d.]+\])", "\\1,\u00a0", text)


def _badge(match: re.Match[str]) -> str:
    return f'<td><span class="verdict {match[1].replace(",", "").replace(" ", "-")}">{match[1]}</span>'


def inline_png(png: bytes) -> str:
    """A picture as a data address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def width_rem(png: bytes) -> float:
    """Largest width on a page, so that letters have one size in all figures: 7.5 rem for an inch at 300 pixels an inch."""
    (pixels,) = struct.unpack(">I", png[16:20])  # the header's width
    return round(pixels / 300 * 7.5, 1)


def code_html(text: str) -> str:
    """Plain text with `names` -> HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
