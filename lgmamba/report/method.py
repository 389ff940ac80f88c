"""How a study was made, in sentences for its second page."""

from lgmamba.analysis.families import several_mixers
from lgmamba.config.study import Params
from lgmamba.report.adaptive import describe_adaptive
from lgmamba.report.captions import Sample

CHOICES = (
    "The study follows Rathjens, Schiewer, Wiskott and Subramoney, *Probing Length Generalization in Mamba via Image Reconstruction* "
    "(arXiv:2603.12499). Its abstract states the task, that performance degrades beyond the training lengths, that the strategy "
    "adapts to their distribution, and that a length-adaptive variant improves performance across the training lengths. What the "
    "paper's public code does, what is done here, and why it differs, is one table in docs/paper.md. A disagreement with the paper "
    "may come from these choices."
)


def method_lines(params: Params, sample: Sample) -> list[str]:
    """Task, model, training and measurement, one sentence or two each."""
    train, adaptive, several = params.train, describe_adaptive(params), several_mixers(params)
    shared = any(
        run.train.lr == train.lr for run in params.runs_by_name().values()
    )  # each run may have a rate of its own
    rate = f"peak learning rate {train.lr:g}" if shared else "each run at a peak learning rate of its own"
    return [
        f"**Task.** {params.task.described(sample.order)}",
        f"**Model.** {_model(params, several)}",
        f"**Training.** {train.steps:,} steps of {train.batch_size} images, {rate}. L0 is the longest length "
        f"that a run was trained on. Runs differ only in {'their mixers and in ' if several else ''}what the tables below say.",
        *([f"**Length-adaptive.** {adaptive}"] if adaptive else []),
        f"**Measurement.** {str(sample).capitalize()}. PSNR = 10 log10(1 / mean squared error), the mean over images taken before the "
        'logarithm. For each length T a pass of its own reads the first T patches ("prefix mode"), and a length-adaptive run is told T.',
        "**Intervals.** Student's over trainings, of the paired differences where two runs are compared; figures name other bands.",
    ]


def _model(params: Params, several: bool) -> str:
    """The stack; of several mixers each is in a table of its own."""
    model = params.model
    if not several:
        return f"Pre-norm residual {model.mixer.title} blocks ({model.n_layer} layers, width {model.d_model}, {model.mixer.description})."
    others = [
        f"in `{name}` {run.model.n_layer}"
        for name, run in params.runs_by_name().items()
        if run.model.n_layer != model.n_layer
    ]
    layers = ", ".join([f"{model.n_layer} layers", *others])
    return f"Pre-norm residual blocks ({layers}; width {model.d_model}) around the mixer of each run, which the table of sequence mixers names."
