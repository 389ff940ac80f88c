"""`lgmamba pack`: a study's weights, cards and frames as one file, for others."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def pack(
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    results: Annotated[Path, typer.Option(help="folder of the study's results, with runs/ and frames/")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="the file to write, .tar.gz")],
    day: Annotated[str | None, typer.Option(help="of publication, 2026-01-31; today by default")] = None,
) -> None:
    """Pack weights with a card for each run, and frames with their metadata."""
    from lgmamba.config.base import ConfigError
    from lgmamba.publish.pack import pack as pack_study

    try:
        published = (
            datetime.now(UTC).date().isoformat()
            if day is None
            else datetime.strptime(day, "%Y-%m-%d").date().isoformat()
        )
    except ValueError:
        raise ConfigError(f"--day: found {day!r}, expected a day such as 2026-01-31") from None
    names = pack_study(study, results, data, out, published)
    typer.echo(f"{out}: {len(names)} files, {out.stat().st_size / 1e6:.1f} MB")
