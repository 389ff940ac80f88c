"""Every page holds what it says: links lead somewhere, commands and options exist, code compiles, configuration parses."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
import yaml

from lgmamba.analysis import FIGURE_CONDITIONS, FRAME_CONDITIONS
from lgmamba.cli import app
from lgmamba.config.study import Params

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/build"))
commands, configuration, diagrams, frames, links, studies = (
    __import__(name) for name in ("commands", "configuration", "diagrams", "frames", "links", "studies")
)
sys.path.remove(str(ROOT / "docs/build"))

OWN = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*OWN, ROOT / "README.md", ROOT / "config/README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
GENERATED = {f"docs/reference/{name}.md" for name in ("configuration", "command_line", "python", "frames")}
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTIONS = {name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)} for name, command in commands.each()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", links.FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dangling(page: str, text: str, known: set[str]) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for link in links.of(text):
        path = links.target_of(link, page)
        if path not in known and not (ROOT / path).exists():
            found.append(link)
        elif "#" in link and path.endswith(".md") and path not in known:
            if link.partition("#")[2] not in anchors((ROOT / path).read_text(encoding="utf-8")):
                found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    known = GENERATED | {f"docs/{uri}" for uri in studies.pages()}
    assert dangling(name_of(path), path.read_text(encoding="utf-8"), known) == []


def test_a_link_to_nothing_is_found_and_code_is_not_read():
    text = (
        "[a](install.md) [b](nowhere.md) `x` ![c](../docs/none.png)\n```md\n[d](never.md)\n```\n[e](install.md#nothing)"
    )
    assert dangling("docs/page.md", text, set()) == ["nowhere.md", "../docs/none.png", "install.md#nothing"]


def test_links_of_generated_pages_lead_somewhere():
    known = GENERATED | {f"docs/{uri}" for uri in studies.pages()}
    made = studies.pages() | {"reference/configuration.md": configuration.page().replace("(#", "(configuration.md#")}
    for uri, text in made.items():
        assert dangling(f"docs/{uri}", text, known) == [], uri


def test_tests_named_on_a_page_exist():
    named = {name for page in PAGES for name in re.findall(r"`(tests/\S+\.py)::(\w+)`", page.read_text())}
    assert len(named) > 50
    assert [name for name in sorted(named) if f"def {name[1]}(" not in (ROOT / name[0]).read_text()] == []


def test_every_page_is_in_the_navigation_and_the_other_way_round():
    def listed(entries):
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                yield from listed(value) if isinstance(value, list) else [value]

    named = list(listed(SITE["nav"]))
    assert len(named) == len(set(named))
    own = {path.name for path in OWN}
    assert {f"docs/{name}" for name in set(named) - own} == GENERATED | {"docs/studies/index.md"}
    assert own <= set(named)


def test_links_in_the_site_are_those_of_the_files_that_come_along():
    text = '[![p](../reports/x.png)](../params.yaml) [presets](../workflow/presets) [m](mixers.md#a) <a href="mixers.md">\n```\n[x](../y)\n```'
    assert links.rewritten(text, "docs/page.md") == (
        '[![p](reports/x.png)](params.yaml) presets [m](mixers.md#a) <a href="mixers.html">\n```\n[x](../y)\n```'
    )
    assert links.rewritten("[a](../../docs/mixers.md)", "reports/benchmarks/scan.md") == "[a](../../mixers.md)"
    assert "reports/omniglot/figures/curves.png" in links.carried({"docs/p.md": "[a](../reports/omniglot/report.md)"})


def test_a_flow_chart_becomes_a_row_for_each_arrow():
    chart = '```mermaid\nflowchart TD\n    a["A<br/>more"]\n    b["B"]\n    c["C"]\n\n    a & b -- "lgmamba x" --> c --> a\n```\nafter'
    rows = [
        "| from | by | to |",
        "| --- | --- | --- |",
        "| **A**, **B** | `lgmamba x` | **C** |",
        "| **C** |  | **A** |",
        "after",
    ]
    assert diagrams.as_tables(chart).splitlines() == rows
    page = (ROOT / "docs/from_params_to_figure.md").read_text(encoding="utf-8")
    assert "mermaid" in page and "mermaid" not in diagrams.as_tables(page)


def called(line: str) -> list[str]:
    """What is wrong with one command line."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words[:3] in (["python", "-m", "lgmamba"],):
        words = ["lgmamba", *words[3:]]
    if not words:
        return []
    if words[0] == "make":
        return [f"make {t}" for t in words[1:] if "=" not in t and t not in TARGETS]
    if words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
        return [] if (ROOT / words[1]).is_file() else [words[1]]
    if words[0] != "lgmamba" or words[1:2] in (["--help"], []):
        return []
    name = next(
        (
            n
            for n in sorted(OPTIONS, key=len, reverse=True)
            if " ".join(words).startswith(f"{n} ") or " ".join(words) == n
        ),
        None,
    )
    if name is None:
        group = any(known.startswith(" ".join(words) + " ") for known in OPTIONS)
        return [] if group else [line]
    asked = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [f"{name} {option}" for option in asked if option not in OPTIONS[name] | {"--help"}]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_and_their_options_exist(path):
    text = path.read_text(encoding="utf-8")
    lines = [line for block in blocks(path, "bash", "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [
        code.replace("\n", " ")
        for code in re.findall(r"`((?:lgmamba|make|python -m lgmamba) [^`]*)`", links.FENCE.sub("", text))
    ]
    parts = [part.strip() for line in lines for part in re.split(r"\s(?:&&|\|\|?|;)\s|; ", line.partition(" #")[0])]
    assert [wrong for part in parts for wrong in called(part)] == []


def test_the_readme_comes_to_the_point():
    before = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Run it your way")[0]
    assert len(before.split()) <= 1200


def test_the_first_page_of_the_site_is_not_the_readme(monkeypatch):
    """Pages may link to the README, which then comes along; MkDocs calls every README the first page."""
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"), plugins=[])
    monkeypatch.setattr(
        config.plugins, "_current_plugin", None, raising=False
    )  # which MkDocs sets while it calls hooks
    monkeypatch.syspath_prepend(str(ROOT / "docs/build"))
    page = __import__("hooks").page_of(config, "README.md", "text")
    assert (page.dest_uri, page.url) == ("README.html", "README.html")


@pytest.mark.parametrize("path", PAGES[:-1], ids=name_of)  # the changelog names what was
def test_files_of_frames_that_are_named_exist(path):
    named = set(re.findall(r"[`/]([a-z_]+)\.parquet", path.read_text(encoding="utf-8")))
    written = {*FRAME_CONDITIONS, *(f"figure_{name}" for name in FIGURE_CONDITIONS)}
    written |= {found.stem for found in ROOT.glob("reports/*/frames/*.parquet")}
    own = {"steps", "asked", "train", "test"}  # of one run, and of images that one brings
    assert named - written - own == set()


def headless(text: str) -> list[str]:
    """Rows of tables that follow no head, which are shown as text full of strokes."""
    lines = ["", *links.FENCE.sub("", text).splitlines(), ""]
    begins = [k for k, line in enumerate(lines) if line.startswith("|") and not lines[k - 1].startswith("|")]
    return [lines[k] for k in begins if not re.fullmatch(r"\|[ :|-]+\|", lines[k + 1].strip())]


def test_every_row_of_a_table_stands_under_a_head():
    pages = [*PAGES, *ROOT.glob("reports/*/*.md"), *ROOT.glob("reports/benchmarks/**/*.md")]
    assert {name_of(path): rows for path in pages if (rows := headless(path.read_text(encoding="utf-8")))} == {}
    assert headless("| a |\n| --- |\n| 1 |\n\n| 2 |\n") == ["| 2 |"]


def test_the_readme_says_of_remedies_what_its_table_has():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Which remedy helps where")[2]
    words, _, table = text.partition("<!-- generated:matrix_signs -->\n")
    said = " ".join(words.split())
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.partition("\n\n")[0].splitlines()
    )
    better = {
        re.search(r"reports/(\w+)/", row[0])[1]: [
            name for name, sign in zip(head[1:], row[1:], strict=True) if sign == "+"
        ]
        for row in rows
        if "+" in row
    }
    four = ["step sizes × L0/T", "MambaExtend", "Mamba Modulation", "assembly from windows"]
    assert better["in_context"] == four
    assert "four remedies are shown to beat the best control by about 4 dB" in said
    assert better["queried_digits"] == [name for name in four if name != "Mamba Modulation"]
    assert "All but Mamba Modulation gain on digits" in said
    assert better["classified_cifar10"] == ["step sizes × L0/T", "assembly from windows"]
    assert better["mixers_omniglot"] == ["assembly from windows"]
    assert "the last two also a little on CIFAR-10, and the last one a little on drawings" in said
    assert set(better) - {"mixers_digits", "cifar10_repairs"} == {
        "in_context",
        "queried_digits",
        "classified_cifar10",
        "mixers_omniglot",
    }


def test_a_command_that_does_not_exist_is_found():
    assert called("lgmamba shew params.yaml") == ["lgmamba shew params.yaml"]
    assert called("lgmamba show params.yaml --wrote") == ["lgmamba show --wrote"]
    assert called("X=1 make everything PRESET=a") == ["make everything"]
    assert called("python benchmarks/none.py") == ["benchmarks/none.py"]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_compiles_and_configuration_parses(path):
    for code in blocks(path, "python"):
        compile(code, name_of(path), "exec")
    for text in blocks(path, "yaml"):
        assert yaml.safe_load(text) is not None
    assert {language for language, _ in FENCE.findall(path.read_text(encoding="utf-8"))} <= {
        "", "bash", "python", "yaml", "text", "mermaid",
    }  # fmt: skip


def test_the_reference_has_every_key_command_and_option():
    page = configuration.page()
    schema = Params.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key in section.get("properties", {}):
            assert f"| `{key}` |" in page
    assert "a training's own" not in page  # a section that is reached twice has one table
    assert len(re.findall(r"\{#(\w+)\}", page)) == len(set(re.findall(r"\{#(\w+)\}", page)))
    shown = commands.page()
    visible = {name for name, command in commands.each() if not command.hidden}
    assert {f"lgmamba {name}" for name in ("new", "show", "train", "tradeoff show")} <= visible
    assert all(
        f"## `{name}`" in shown and all(f"`{o}`" in shown for o in OPTIONS[name] if o.startswith("--"))
        for name in visible
    )
    assert typer.main.get_command(app) is not None


def test_every_frame_has_its_columns_or_says_that_git_has_none():
    page = frames.page()
    assert "### `curves`" in page and "| `psnr` | float64 |" in page
    for section in page.split("\n### `")[1:]:
        assert "| column | type |" in section or "It is not kept in git." in section or "```text" in section


def test_the_site_asks_the_network_for_nothing():
    assert SITE["theme"]["font"] is False
    assert SITE["strict"] is True
    assert "extra_javascript" not in SITE
