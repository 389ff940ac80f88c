"""Links between Markdown files of the repository, and where they lead in the site."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\(|(?:href|src)=\")([^()\s\"]+)(?=[)\"])")
NAMED = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")


def of(text: str) -> Iterator[str]:
    """Every relative link of a Markdown text, with its anchor; none inside blocks of code, nor addresses."""
    for match in LINK.finditer(FENCE.sub("", text)):
        if relative(match[2]):
            yield match[2]


def relative(target: str) -> bool:
    return not re.match(r"[a-z][a-z0-9+.-]*:|#|/", target)


def target_of(link: str, page: str) -> str:
    """The file or folder that a link of a page leads to, both from the top of the repository."""
    return os.path.normpath(os.path.join(os.path.dirname(page), link.partition("#")[0]))


def in_site(path: str) -> str:
    """Where a file of the repository lies in the site."""
    return path.removeprefix("docs/")


def carried(texts: dict[str, str]) -> list[str]:
    """Files outside docs/ that pages link to, directly or through Markdown files that come along.

    Args:
        texts: path of a page, from the top of the repository -> its text.
    """
    found: dict[str, None] = {}
    waiting = list(texts.items())
    while waiting:
        page, text = waiting.pop()
        for link in of(text):
            path = target_of(link, page)
            if path.startswith("docs/") or path in found or not (ROOT / path).is_file():
                continue
            found[path] = None
            if path.endswith(".md"):
                waiting.append((path, (ROOT / path).read_text(encoding="utf-8")))
    return sorted(found)


def rewritten(text: str, page: str) -> str:
    """A page's text with its links as they are in the site; a folder, which has no page there, is named without a link."""

    def plain(match: re.Match) -> str:
        folder = relative(match[2]) and (ROOT / target_of(match[2], page)).is_dir()
        return match[1] if folder else match[0]

    def moved(match: re.Match) -> str:
        before, target = match[1], match[2]
        if not relative(target):
            return match[0]
        link = os.path.relpath(in_site(target_of(target, page)), os.path.dirname(in_site(page)) or ".")
        if before != "](":  # MkDocs leaves HTML as it is
            link = re.sub(r"\.md$", ".html", link)
        return before + link + "".join(target.partition("#")[1:])

    def both(part: str) -> str:
        return LINK.sub(moved, NAMED.sub(plain, part))

    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [both(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, both(text[at:])])
