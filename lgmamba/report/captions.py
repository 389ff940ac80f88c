"""Captions of the figures: what is drawn, of how many seeds and images, and what the bands are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from lgmamba.analysis import figures_of
from lgmamba.analysis.families import exemplary_runs
from lgmamba.analysis.numbers import greatest, least
from lgmamba.analysis.shown import is_selection
from lgmamba.analysis.statistics import FEWEST
from lgmamba.config.study import Params
from lgmamba.report.wording import plural


@dataclass(frozen=True)
class Sample:
    """What the headline numbers rest on."""

    seeds: tuple[int, int]
    """Fewest and most trainings of a run."""
    images: int
    split: str
    repeats: int
    order: str

    pictures: bool = True

    def __str__(self) -> str:
        one, each = ("image", "visiting orders an image") if self.pictures else ("sample", "sequences a sample")
        orders = "" if self.repeats == 1 else f", {self.repeats} {each}"
        return f"{plural(self.images, f'{self.split} {one}')}{orders}, {self.counted('seed')}, order `{self.order}`"

    @property
    def trainings(self) -> str:
        """Of a run, in words."""
        return self.counted("training")

    def counted(self, noun: str) -> str:
        """1 seed, 5 seeds, or 5 to 10 seeds where some runs have more than others."""
        fewest, most = self.seeds
        return plural(most, noun) if fewest == most else f"{fewest} to {plural(most, noun)}"


def sample_of(params: Params, curves: pl.DataFrame) -> Sample:
    """Counts as found in the curves, not as asked for."""
    found = curves.filter(
        pl.col("mode") == "prefix", pl.col("order") == params.evaluation.orders[0], pl.col("method") == "model"
    )
    counts = found.group_by("run").agg(pl.col("seed").n_unique())["seed"]
    return Sample(
        (int(least(counts)), int(greatest(counts))),
        int(least(found["n_images"])),
        params.evaluation.split,
        int(least(found["n_repeats"])),
        params.evaluation.orders[0],
        params.task.IMAGES,
    )


TEXTS = {
    "task": """
        One held-out image is cut into cells that are read in the order of the numbers. Below each step t: the patch read at that
        step, all patches read so far, and the whole image as {reconstruct} it from them. Small numbers: PSNR of that
        picture in dB. All pictures show pixel values from 0 to 1; the chequered pattern is what was not read.""",
    "curves": """
        Every point is a sequence of its own, ended at t and decoded there. {told} Dots and dashed lines: training length L0,
        the longest length of training; everything to the right of it is beyond training. {Lines}; {sample}. {definition} The
        ideal memory shows the patches read so far and the mean image elsewhere; once every cell has been read it is perfect and has left
        the plot. {regret}""",
    "gallery": """
        {Same} The first row shows the patches read so far, chequered where none was. Right of the red line a run is beyond its training
        length. Small numbers: PSNR of that picture in dB. Seed {seed}; all pictures show pixel values from 0 to 1.""",
    "retention": """
        Mean squared error of a cell's pixels against the step t and the time since the cell was last read (octaves of steps; lowest
        strip: not read so far). A run that keeps what it read is dark in every row; one that forgets brightens towards old ages; one
        that writes the image only at the end is bright left of its training length (dashed). One logarithmic colour scale, its ends
        at the 2nd and 98th percentile. Mean over seeds; {sample}.""",
    "asked": """
        PSNR of single patches that query tokens ask for, after L0 steps (above) and after the longest sequence (below). Left: at random
        places, by the number of the query. Middle: the same queries by the distance between the centres of the patch asked for and of the
        nearest one read. Right: at the places read last, by the steps since. Lines: one query after the other, as in training; dotted:
        each alone from the same state; what lies between is what the queries write. Numbers and steps in octaves; values of less than
        one query in a hundred are left out. {told_L0} Bands: lowest to
        highest of {seeds}; {sample}.""",
    "envelope": """
        Above: PSNR at sequence length T of the run trained on many lengths, of the run that is told T, and of specialists, each
        trained at one length and shown there. Bands and bars: lowest to highest of {seeds}. Below: the run that is told T minus the
        generalist, and minus the specialist at its length (stars), with {percent} intervals over trainings. Measured on {sample}.""",
    "budget": """
        The same runs trained with several numbers of steps. Left: PSNR at the lengths T that have a specialist. Middle: differences of
        runs with the same budget; what lies above zero at one budget and below it at another is no claim of this study. Right: what reading twice
        as many patches as in training costs. Bands: {percent} intervals over trainings; {sample}.""",
    "forms": """
        PSNR of each run minus that of the generalist, at each length T that has a specialist (red: the specialist), all with the same budget;
        and, in the last two panels, PSNR beyond L0 minus the run's own at L0. Dots: mean over seeds; lines: {percent} intervals over
        trainings; bars: each seed's lowest and highest. {sample}.""",
    "degradation": """
        PSNR at sequence length T minus PSNR at the run's own training length. {bands}; {sample}. {regret}""",
    "mixers": """
        PSNR at sequence length T minus PSNR at the run's own training length, for every sequence mixer; grey line: what lies right of it is
        beyond training. Mean over {seeds}; {sample}.""",
    "remedies": """
        Above: PSNR against T / L0 of the best remedy of each of the best kinds (colours; forms: second page), of the model as it is and of
        controls (black);
        faint: all other remedies; bands: lowest to highest of {seeds}. Below: PSNR at the longest T minus PSNR at L0, the best remedies
        first (dots), then the model as it is and controls (squares); lines: {percent} intervals over trainings. Right of zero a
        method gains from what arrives after L0. Measured on {tried}.""",
    "remedies_retention": """
        As the retention maps above, order `{first_order}`, for the model as it is and for the best remedy of each of the best kinds.
        A remedy that keeps what was read is as dark right of the dashed line as left of it. Mean over {seeds}.""",
    "read_outs": """
        PSNR of pictures read out after T steps by the model's own decoder, and by ridge regressions on what the decoder is given, with the
        model frozen: fitted on training images after T steps, or after L0 steps and used after T. Where the one fitted at T stays and the
        model's own falls, the content is there, and it is the decoder that no longer finds it. Line: mean over {seeds}; bars: lowest
        to highest; {looked}.""",
    "modes": """
        At the longest T. Left: growth of the mean state from L0 to T of every mode of every layer (channel and state index) whose
        mean state at L0 differs from zero by more than three standard errors; forecast from its decays on sequences of length L0 alone,
        against measured; the lighter, the more modes; below the axis: drawn at its edge. Share of the variance of the growth's
        logarithm that the forecast explains, modes weighted by their share of the squared mean state; in
        brackets, with the same decays and mean writes as measured up to T. Middle: PSNR gained by acting,
        beyond L0, on the modes of one group alone: reading them at the norm that they have at L0, making them forget as much as they
        would grow, or holding them as they were at L0. Groups by memory \u03c4, the steps in which a mode forgets all but 1/e of a
        write. Dashed: everything that was lost. Right: growth of the groups under remedies in their simplest form (median over tested
        modes, geometric mean over layers), and the PSNR with each. {Bars}; {looked}.""",
    "states": """
        Left: norm of each layer's state over that of training images at L0. Middle: share of its entries outside the range that they
        have for training images within L0. Right: PSNR of the model, as it is and with every state read at the norm of L0 beyond L0;
        and of linear read-outs of the image from the last layer's state, fitted on training images at L0 or at T itself. Where the one
        fitted at T goes on to see the image, the image is still there, and it is the decoder that no longer finds it. Read-outs below
        the axis have left the plot. {Lines}; {looked}.""",
    "receptive_field": """
        Left: mean distance, in steps, of the hidden attention of each layer over T: weights |\u03b1|, every row of every channel normalised
        to 1, mean over channels and over rows of the last tenth of the T steps; dotted: all steps read alike. Middle: share of the gradient of the
        reconstruction at T, with respect to the tokens, that falls on tokens up to an age. Right: share of a patch that is drawn in its
        cell when that patch, and no other, is swapped for one of another image, by its age. {Lines}; {looked}.""",
    "training": """
        PSNR on validation images of sequences of several lengths while training. {Lines}.""",
    "lengths": """
        Probability that a training sequence has a given length, at the end of training; small letters: the runs trained on it.""",
}


PLAIN_TEXTS = {
    "curves": """
        Every point is a sequence of its own, ended at t and asked there. {told} Dots and dashed lines: training length L0,
        the longest length of training; everything to the right of it is beyond training. {Lines}; {sample}. {definition} {regret}""",
    "envelope": """
        Above: {level} at sequence length T of the run trained on many lengths, of the run that is told T, and of specialists, each
        trained at one length and shown there. Bands and bars: lowest to highest of {seeds}. Below: the length-adaptive run
        minus the generalist and minus the specialists, with {percent} intervals over trainings. Measured on {sample}.""",
    "degradation": """
        {Level} at sequence length T minus {level} at the run's own training length. {bands}; {sample}. {regret}""",
    "mixers": """
        {Level} at sequence length T minus {level} at the run's own training length, for every sequence mixer; grey line: what lies right of it is
        beyond training. Mean over {seeds}; {sample}.""",
    "theory": """
        Dots: one bare S6 layer, mean over {seeds}; bars: lowest to highest. Lines: the closed form of its error, as it is, with steps
        slower by T / L0 beyond L0, and of the mean over windows of L0 steps. Measured on {sample}.""",
    "remedies": """
        Above: {level} against T / L0 of the best remedy of each of the best kinds (colours; forms: second page), of the model as it is and of
        controls (black);
        faint: all other remedies; bands: lowest to highest of {seeds}. Below: {level} at the longest T minus {level} at L0, the best
        remedies first (dots), then the model as it is and controls (squares); lines: {percent} intervals over trainings. Right of
        zero a method gains from what arrives after L0. Measured on {tried}.""",
    "training": """
        {Level} on validation samples of sequences of several lengths while training. {Lines}.""",
}
"""Where they differ for a task without pictures."""

CLASS_TEXTS = {
    "curves": """
        PSNR above and accuracy below, of the same trainings on the same images. Every point is a sequence of its own, ended at t and read
        there by both heads. {told} Dots and dashed lines: training length L0, the
        longest length of training; everything to the right of it is beyond training. {Lines}; {sample}. PSNR is that of the mean squared
        error over images. Beside the mean image stands the commonest class. The ideal memory shows what was read and the mean image
        elsewhere; once all was read it is perfect and has left the plot. {regret}""",
    "training": """
        Levels on validation images of sequences of several lengths while training. {Lines}.""",
    "envelope": """
        PSNR, and below it accuracy, at sequence length T of the run trained on many lengths, of the run that is told T, and of specialists,
        each trained at one length with the same weight of classification, and shown there. Bands and bars: lowest to highest of {seeds}.
        Under each: the run that is told T minus the generalist, and minus the specialist at its length (stars), with {percent} intervals
        over trainings. Measured on {sample}.""",
    "budget": """
        The same runs trained with several numbers of steps; above PSNR, below accuracy. Left: at the lengths T that have a specialist.
        Middle: differences of runs with the same budget; what lies above zero at one budget and below it at another is no claim of this
        study. Right: what reading twice as many patches as in training costs. Bands: {percent} intervals over trainings; {sample}.""",
    "forms": """
        PSNR, and below it accuracy, of each run minus that of the generalist, at each length T that has a specialist (red: the specialist),
        all with the same budget; and, in the last two panels, beyond L0 minus the run's own at L0. Dots: mean over seeds; lines: {percent}
        intervals over trainings; bars: each seed's lowest and highest. {sample}.""",
    "degradation": """
        PSNR, and below it accuracy, at sequence length T minus that at the run's own training length. {bands};
        {sample}. {regret}""",
    "mixers": """
        PSNR, and below it accuracy, at sequence length T minus that at the run's own training length, for every sequence mixer; grey line:
        what lies right of it is beyond training. Mean over {seeds}; {sample}.""",
    "remedies": """
        Above: PSNR, and below it accuracy, against T / L0 of the best remedy of each of the best kinds (colours; by PSNR; forms: second page), of the
        model as
        it is and of controls (black); faint: all other remedies; bands: lowest to highest of {seeds}. Lowest rows: PSNR and accuracy at the
        longest T minus those at L0, the best remedies first (dots; by PSNR), then the model as it is and controls (squares); lines: {percent}
        intervals over trainings. Right of zero a method gains from what arrives after L0. Measured on {tried}.""",
}
"""Where they differ for a study whose runs name classes."""

PLACES_TEXTS = {
    "task": """
        One held-out image, of which patches are read at random places, one at each step. Below each step t: the patch read at that
        step, all pixels read so far, and the whole image as {draw} asked for every place of it. Small
        numbers: PSNR of that picture in dB. All pictures show pixel values from 0 to 1; the chequered pattern is what was not read.""",
}
"""Where they differ for a task that reads patches at any pixel."""

UNMAPPED_TEXTS = {
    "remedies_retention": """
        Mean squared error of a cell's pixels against the step t and the time since the cell was last read (octaves of steps; lowest
        strip: not read so far), order `{first_order}`, for the model as it is and for the best remedy of each of the best kinds.
        Dashed: training length L0. A remedy that keeps what was read is as dark right of it as left of it. Mean over {seeds}.""",
}
"""Where they differ for a study without retention maps of its runs."""


TOLD = "Length-adaptive runs are told each sequence's true length{controls}."
TOLD_L0 = "Length-adaptive runs are told L0{controls}."
CONTROLS = {"shuffled": ", shuffled controls L0", "constant": ", constant controls their constant"}
"""What is told instead, by what a run was told in training."""

REGRET = "Stars (black: of several lines): the same model trained at that length alone; a line's distance below is its regret."

SELECTION = " A selection of the runs is shown; the tables on the second page have all."

SHARED = " Only seeds that all runs have."

PAIRED = ("envelope", "budget", "forms", "degradation", "mixers")
"""Figures whose frames pair runs seed by seed, and so leave out what a run has of seeds that others lack."""


def seeds_drawn(params: Params, frames: Path) -> dict[str, tuple[int, int]]:
    """{figure: fewest and most trainings of a run in it}, of those of PAIRED that the study has, and of those about some of its runs."""
    found: dict[str, tuple[int, int]] = {}
    for figure in PAIRED:
        if figure in figures_of(params):
            counts = pl.read_parquet(frames / f"figure_{figure}.parquet", columns=["n_seeds"])["n_seeds"].drop_nulls()
            found |= {} if counts.is_empty() else {figure: (int(least(counts)), int(greatest(counts)))}
    return found | _seeds_of_some(params)


def _seeds_of_some(params: Params) -> dict[str, tuple[int, int]]:
    """The same of figures about some of the runs, which need not be those with more trainings."""
    found: dict[str, tuple[int, int]] = {}
    for section, figures in (
        (params.remedy_evaluation, ("remedies", "remedies_retention")),
        (params.probes, ("read_outs",)),
    ):
        if section is not None and section.runs:
            counts = [len(params.seeds_of(run)) for run in section.runs]
            found |= {figure: (min(counts), max(counts)) for figure in figures if figure in figures_of(params)}
    return found


def captions(
    params: Params,
    sample: Sample,
    tried: str | None = None,
    images: Sequence[int] = (),
    regret: bool = False,
    drawn: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, str]:
    """{figure: caption}, of the figures that the study has.

    Args:
        params: the study.
        sample: what the headline numbers rest on.
        tried: the same of the remedies, in words; of a study that tries some.
        images: those of the panel that the gallery shows, in its order.
        regret: whether the frames have the regret of some run.
        drawn: `seeds_drawn`; where nothing is said, those of the sample.
    """
    drawn = drawn or {}
    one_seed, alone = sample.seeds == (1, 1), len(exemplary_runs(params)) == 1
    metric = params.task.METRICS[0]
    adaptive = {run.model.adaptive.told for run in params.runs_by_name().values() if run.model.adaptive is not None}
    context: dict[str, object] = {
        "regret": REGRET if regret else "",
        "told": TOLD.format(controls="".join(words for told, words in CONTROLS.items() if told in adaptive))
        if adaptive
        else "",
        "told_L0": TOLD_L0.format(controls=CONTROLS["constant"] if "constant" in adaptive else "") if adaptive else "",
        "Lines": "One training"
        if one_seed
        else f"Line: mean over {sample.counted('seed')}; band: lowest to highest seed",
        "definition": metric.definition,
        "level": metric.in_words,
        "Level": metric.label,
        "percent": f"{100 * params.claims.level:g} %",
        "sample": sample,
        "seed": params.seeds[0],
        "seeds": sample.counted("seed"),
        "split": sample.split,
        "Same": same_images(images, sample.split),
        "reconstruct": "one run reconstructs" if alone else "two runs reconstruct",
        "draw": "one run draws it when it is" if alone else "two runs draw it when they are",
    }
    if params.probes is not None:
        probes = params.probes
        context["Bars"] = (
            "One training" if one_seed else f"Symbols: mean over {sample.counted('seed')}; bars: lowest to highest seed"
        )
        context["looked"] = f"{plural(probes.images, f'{sample.split} image')} at most, order `{probes.order}`"
    if params.remedy_evaluation is not None:
        context |= {"tried": tried, "first_order": params.remedy_evaluation.orders[0]}
    texts = TEXTS if params.task.IMAGES else TEXTS | PLAIN_TEXTS
    texts = texts | PLACES_TEXTS if params.task.READS == "places" else texts
    texts = texts | CLASS_TEXTS if params.names_classes else texts
    texts = texts if "retention" in figures_of(params) else texts | UNMAPPED_TEXTS
    found = {}
    for figure in figures_of(params):
        here = replace(sample, seeds=drawn.get(figure, sample.seeds))
        bands = f"Bands: {context['percent']} intervals over trainings"
        bands = bands if here.seeds[1] >= FEWEST else "No bands: too few trainings for an interval"
        words = context | {"sample": here, "seeds": here.counted("seed"), "bands": bands}
        found[figure] = " ".join(texts[figure].format(**words).split())
        found[figure] += SHARED if here != sample and figure in PAIRED else ""
        found[figure] += SELECTION if is_selection(params, figure) else ""
    return found


def same_images(images: Sequence[int], split: str) -> str:
    """Which images a gallery has, in a sentence: frames say it, for they may have been kept when others were chosen."""
    if len(images) < 2:
        return f"The same {split} image in all rows."
    first = list(images) == list(range(len(images)))
    return f"The same {split} images in all rows: " + (
        f"the first {len(images)} of those kept." if first else "the first, and of those kept the one least like it."
    )
