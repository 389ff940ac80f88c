"""`lgmamba matrix`: which remedy helps where, of all kept studies."""

from pathlib import Path
from typing import Annotated

import typer


def matrix(
    reports: Annotated[Path, typer.Option(help="folder of reports, of which those with kept frames are read")] = Path(
        "reports"
    ),
    page: Annotated[
        Path | None,
        typer.Option(
            help="Markdown file whose blocks `generated:matrix` and `generated:matrix_signs` are written anew; by default the table is printed"
        ),
    ] = None,
) -> None:
    """Say of every remedy whether it beats the best control, study by study, from the frames that git keeps."""
    from lgmamba.analysis.matrix import kept_studies, matrix_frame
    from lgmamba.config.base import ConfigError
    from lgmamba.report import update_block
    from lgmamba.report.matrix import BLOCKS, matrix_table

    folders = kept_studies(reports)
    if not folders:
        raise ConfigError(
            f"{reports}: found no study with frames/remedies_differences.parquet, expected: kept frames of studies that tried remedies"
        )
    found = matrix_frame(folders)
    if page is None:
        typer.echo(matrix_table(found))
        return
    text = page.read_text(encoding="utf-8")
    blocks = [name for name in BLOCKS if f"<!-- generated:{name} -->" in text]
    if not blocks:
        raise ConfigError(
            f"{page}: found no block generated:{' or generated:'.join(BLOCKS)}, expected: one that is to be written anew"
        )
    for name in blocks:
        update_block(page, name, BLOCKS[name](found))
