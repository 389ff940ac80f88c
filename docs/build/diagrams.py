"""Flow charts of Mermaid as tables: the site loads no script to draw them, as code hosts do."""

import re

CHART = re.compile(r"^```mermaid\nflowchart \w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NODE = re.compile(r"^\s*(\w+)\[\"(.*)\"\]$")
ARROW = re.compile(r"\s*--(?:\s*\"([^\"]*)\"\s*--)?>\s*")


def as_tables(text: str) -> str:
    """A page's text with a row for each arrow: what is read, by which command, what comes of it."""
    return CHART.sub(lambda match: _table(match[1]), text)


def _table(chart: str) -> str:
    names: dict[str, str] = {}
    lines = ["| from | by | to |", "| --- | --- | --- |"]
    for line in chart.splitlines():
        if node := NODE.match(line):
            names[node[1]] = node[2]
        elif line.strip():
            parts = ARROW.split(line.strip())  # nodes, words, nodes, words, nodes, ...
            for at in range(0, len(parts) - 2, 2):
                source, words, target = parts[at : at + 3]
                lines.append(f"| {_named(source, names)} | {_command(words)} | {_named(target, names)} |")
    return "\n".join(lines)


def _named(nodes: str, names: dict[str, str]) -> str:
    return ", ".join(f"**{names[node.strip()].partition('<br/>')[0]}**" for node in nodes.split("&"))


def _command(words: str | None) -> str:
    return f"`{words}`" if words and words.startswith("lgmamba") else words or ""
