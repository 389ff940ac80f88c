"""A page for each study whose report is in git: its question, verdicts, pictures, report and explorer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FIRST = ("omniglot", "queried_digits", "cifar10", "cifar10_remedies")
"""In this order; the others after them by name."""


@dataclass(frozen=True)
class Study:
    """A folder below reports/ with a report."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def headline(self) -> dict[str, Any]:
        return json.loads((self.folder / "headline.json").read_text(encoding="utf-8"))

    @property
    def title(self) -> str:
        """Of its report, the first heading."""
        text = (self.folder / "report.md").read_text(encoding="utf-8")
        return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def page(self) -> str:
        """Markdown, with links from docs/studies/."""
        up = f"../../reports/{self.name}"
        links = {
            "report.html": "The report",
            "details.html": "its details and tests",
            "explorer.html": "the step explorer, on a page of its own",
        }
        lines = [f"# {self.name}", "", f"*{self.title}*", ""]
        lines += [", ".join(f"[{words}]({up}/{file})" for file, words in links.items() if self.has(file)) + ".", ""]
        lines += _verdicts(self.headline)
        if self.has("explorer.html"):
            lines += [
                "## Step by step",
                "",
                "Move along the steps with the slider or the arrow keys; choose an image and models, and where there are some a training, an "
                "order or a remedy ([what the page has, and what not](../explorer.md)).",
                "",
            ]
            lines += [
                f'<iframe class="explorer" loading="lazy" title="Step explorer of study {self.name}" src="{up}/explorer.html"></iframe>',
                "",
            ]
        figures = [
            name
            for name in ("gallery", "curves", "retention", "remedies", "frontier", "pictures")
            if self.has(f"figures/{name}.png")
        ]
        if figures:
            lines += ["## Pictures", ""]
        for name in figures:
            lines += [f"[![Figure {name} of study {self.name}]({up}/figures/{name}.png)]({up}/figures/{name}.png)", ""]
        return "\n".join(lines)


def found() -> list[Study]:
    """Studies with a report, the most telling first."""
    studies = [Study(path.parent) for path in sorted((ROOT / "reports").glob("*/headline.json"))]
    return sorted(
        studies, key=lambda study: (FIRST.index(study.name) if study.name in FIRST else len(FIRST), study.name)
    )


def pages() -> dict[str, str]:
    """Path in docs/ -> Markdown."""
    studies = found()
    index = ["# Studies", "", "Each was run as its preset says; frames, figures and reports are in git.", ""]
    index += ["| study | asks | report | step by step |", "| --- | --- | --- | --- |"]
    for study in studies:
        up = f"../../reports/{study.name}"
        explorer = f"[explorer]({up}/explorer.html)" if study.has("explorer.html") else ""
        index.append(f"| [{study.name}]({study.name}.md) | {study.title} | [report]({up}/report.html) | {explorer} |")
    return {"studies/index.md": "\n".join(index) + "\n"} | {
        f"studies/{study.name}.md": study.page() for study in studies
    }


def _verdicts(headline: dict[str, Any]) -> list[str]:
    rows = headline.get("contrasts") or []
    if not rows:
        return ["It describes and judges nothing: it has no claims fixed before, or too few trainings.", ""]
    lines = ["| claim | verdict | effect | interval |", "| --- | --- | ---: | --- |"]
    for row in rows:
        effect, ends = row.get("effect"), (row.get("lo"), row.get("hi"))
        shown = "" if effect is None else _signed(effect)
        interval = "" if None in ends else f"[{_signed(ends[0])},&nbsp;{_signed(ends[1])}]"
        lines.append(f"| {row['claim']} | {row.get('verdict', '')} | {shown} | {interval} |")
    return [*lines, ""]


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
