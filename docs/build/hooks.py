"""What MkDocs calls while it builds the site (mkdocs.yml): generated pages, and files of the repository that pages link to.

Pages link as they do on a code host: `../reports/omniglot/report.html`, `../params.yaml`. What lies outside docs/ comes along, at
the path that it has in the repository, with what it links to in its turn; a link to a folder becomes its name alone.
"""

import sys
from pathlib import Path

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one

import commands
import configuration
import diagrams
import frames
import links
import python_api
import studies

GENERATED = {
    "reference/configuration.md": configuration.page,
    "reference/command_line.md": commands.page,
    "reference/python.md": python_api.page,
    "reference/frames.md": frames.page,
}


def on_config(config):
    """A page for each study into the navigation."""
    for entry in config.nav:
        if isinstance(entry, dict) and "Studies" in entry:
            entry["Studies"] = ["studies/index.md", *(f"studies/{study.name}.md" for study in studies.found())]
    return config


def on_files(files: Files, config) -> Files:
    """Generated pages, and whatever pages link to outside docs/."""
    pages = {uri: make() for uri, make in GENERATED.items()} | studies.pages()
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    for path in links.carried(texts):
        source = links.ROOT / path
        if path.endswith(".md"):
            files.append(page_of(config, path, source.read_text(encoding="utf-8")))
        else:
            files.append(File.generated(config, path, abs_src_path=str(source)))
    return files


def page_of(config, path: str, text: str) -> File:
    """A page of the repository outside docs/. MkDocs would make of the README the first page, which is docs/index.md."""
    file = File.generated(config, path, content=text)
    if file.name == "index":
        file.name, file.dest_uri = "README", path.replace(".md", ".html")
    return file


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Links as they are in the site, and diagrams."""
    uri = page.file.src_uri
    own = uri if (links.ROOT / uri).is_file() and not (links.ROOT / "docs" / uri).is_file() else f"docs/{uri}"
    return links.rewritten(diagrams.as_tables(markdown), own)
