"""What the figures are called, wherever one is shown: reports, Snakemake's report."""

from lgmamba.analysis import figures_of
from lgmamba.config.study import Params

TITLES = {
    "task": "The task",
    "curves": "PSNR against the number of patches read",
    "gallery": "Reconstructions step by step",
    "retention": "Retention maps",
    "asked": "What single queries find",
    "envelope": "Specialists, generalist and length-adaptive run",
    "budget": "How much training is enough",
    "forms": "Forms of the length-adaptive run",
    "degradation": "What is lost beyond the training length",
    "mixers": "Whose memory survives length",
    "remedies": "What remedies do beyond the training length",
    "remedies_retention": "Retention maps with remedies",
    "read_outs": "Content and read-out",
    "modes": "Which modes break a model, and which remedy touches them",
    "states": "States beyond the training length",
    "receptive_field": "How far back a model reads",
    "training": "Validation during training",
    "lengths": "The distributions of training lengths",
}

PLAIN_TITLES = {"curves": "{level} against the number of {steps} read", "theory": "Theory and model"}
"""Where they differ for a task without pictures."""

CLASS_TITLES = {"curves": "PSNR and accuracy against the number of patches read"}
"""Where they differ for a study whose runs name classes."""


def titles(params: Params) -> dict[str, str]:
    """{figure: title}, of the figures that the study has."""
    named = TITLES if params.task.IMAGES else TITLES | PLAIN_TITLES
    named = named | CLASS_TITLES if params.names_classes else named
    return {
        figure: named[figure].format(steps=params.task.STEPS, level=params.task.METRICS[0].label)
        for figure in figures_of(params)
    }
