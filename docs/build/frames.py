"""The reference of the frames: columns and types from those kept in git, meanings from the functions that make them."""

import ast
from pathlib import Path

import pyarrow.parquet as pq

from lgmamba.analysis import FIGURE_CONDITIONS, FRAME_CONDITIONS
from lgmamba.analysis.titles import TITLES

ROOT = Path(__file__).parents[2]
PROBES = {"reconstruct": "evaluation", "remedy": "remedies", "probes": "probes"}
"""Module of lgmamba/probe -> folder of what it writes."""
MADE_BY = {
    "curves": "frames.curves_frame",
    "summary": "frames.summary_frame",
    "retention": "frames.retention_frame",
    "history": "frames.history_frame",
    "lengths": "frames.lengths_frame",
    "envelope": "frames.envelope_frame",
    "degradation": "frames.degradation_frame",
    "regret": "frames.regret_frame",
    "contrasts": "contrasts.contrasts_frame",
    "image_errors": "image_errors.errors_frame",
    "image_errors_of": "image_errors.images_frame",
    "runs": "frames.runs_frame",
    "asked": "asked.asked_frame",
    "asked_written": "asked.written_by_queries",
    "asked_told": "asked.told_frame",
    "remedies": "remedies.frames.levels_frame",
    "remedies_levels": "remedies.frames.seed_levels_frame",
    "remedies_differences": "remedies.frames.differences_frame",
    "remedies_cost": "remedies.frames.cost_frame",
    "remedies_lengths": "remedies.frames.lengths_frame",
    "remedies_retention": "frames.retention_frame",
    "remedies_memory": "remedies.figure_data.memory_rows",
    "figure_budget": "comparisons.budget_frame",
    "figure_forms": "comparisons.form_frame",
    "figure_mixers": "mixers.mixer_frame",
    "figure_theory": "theory.theory_frame",
}
"""Frame -> function of lgmamba/analysis that makes it. Frames `probes_<name>` are the files of every training, one after the other."""
TYPES = {"large_string": "text", "string": "text", "double": "float64", "float": "float32", "halffloat": "float16"}


def page() -> str:
    """Markdown: the files of a training as the probes say them, then every frame of a study."""
    parts = [
        "# Frames and their columns\n\nResults are Parquet files, one row for each thing measured; `polars.read_parquet` and others open them. "
        "Units: levels and differences in dB, lengths and steps in patches, times in seconds unless a name says otherwise.\n\n"
        "## Of one training\n\n`<results>/runs/<run>/seed<k>/`\n"
    ]
    for name, folder in PROBES.items():
        text = ast.get_docstring(ast.parse((ROOT / f"lgmamba/probe/{name}.py").read_text(encoding="utf-8"))) or ""
        first, _, rest = text.partition("\n\n")
        lines = "\n".join(line[4:] for line in rest.partition("\n\n")[0].splitlines())
        parts.append(f"\n### `{folder}/`\n\n{first}\n\n```text\n{lines}\n```\n")
    parts.append(
        "\n## Of a study\n\n`<results>/frames/`, written by `lgmamba evaluate`; those that figures and report read are kept in "
        "`reports/<study>/frames`, and with them errors of single images. Columns and types are those of the frames in git.\n"
    )
    for name in (*FRAME_CONDITIONS, *(f"figure_{figure}" for figure in FIGURE_CONDITIONS)):
        parts.append(_frame(name))
    return "".join(parts)


def _frame(name: str) -> str:
    kept = sorted((ROOT / "reports").glob(f"*/frames/{name}.parquet"))
    columns: dict[str, str] = {}
    for path in kept:
        for field in pq.read_schema(path):
            columns.setdefault(
                field.name, TYPES.get(str(field.type), str(field.type).replace("large_list<element: ", "list<"))
            )
    lines = [f"\n### `{name}`\n", _about(name), ""]
    if columns:
        lines += [
            "| column | type |",
            "| --- | --- |",
            *(f"| `{column}` | {type_} |" for column, type_ in columns.items()),
        ]
    else:
        lines += ["It is not kept in git."]
    return "\n".join(lines) + "\n"


def _about(name: str) -> str:
    if name in MADE_BY:
        module, _, function = MADE_BY[name].rpartition(".")
        path = ROOT / "lgmamba/analysis" / f"{module.replace('.', '/')}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        made = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
        text = (ast.get_docstring(made) or "").partition("\n\nArgs:")[0].partition("\nArgs:")[0]
        return text.replace("<", "&lt;")
    if name.startswith("probes_"):
        return f"`probes/{name.removeprefix('probes_')}.parquet` of every training that was looked into, one after the other."
    figure = name.removeprefix("figure_")
    return f"What the figure *{TITLES.get(figure, figure)}* draws, row for row."
