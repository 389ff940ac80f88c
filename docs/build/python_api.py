"""The reference of what can be imported, from the docstrings."""

import lgmamba

CONTRACTS = {
    "What a part of the project must be": (
        "lgmamba.tasks.base.Task",
        "lgmamba.model.sequences.Sequences",
        "lgmamba.model.sequences.SequenceModel",
        "lgmamba.mixers.contract.Call",
        "lgmamba.remedies.remedy.Remedy",
    ),
    "Reading sequences": ("lgmamba.model.runner.run_sequence", "lgmamba.model.runner.read_pieces"),
    "Images": ("lgmamba.data.dataset.load_dataset", "lgmamba.data.dataset.Dataset"),
    "Scans": ("lgmamba.scan.scan_step", "lgmamba.scan.available_backends"),
}


def page() -> str:
    """Markdown with a directive of mkdocstrings for each name."""
    public = [f"{lgmamba._HOME[name]}.{name}" for name in lgmamba.__all__]
    public.insert(public.index("lgmamba.trained.load") + 1, "lgmamba.trained.TrainedModel")
    sections = {"`import lgmamba`": public} | CONTRACTS
    lines = ["# Python", "", "Names of the first section are attributes of `lgmamba`; each loads on first use.", ""]
    for title, names in sections.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {name}", ""]
    return "\n".join(lines)
