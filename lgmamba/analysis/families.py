"""What kind of run each run is, and which runs a family of claims compares."""

import itertools
from collections import Counter
from dataclasses import dataclass

from lgmamba.config.lengths import Curriculum, Fixed, LengthConfig
from lgmamba.config.run import LengthTokenConfig, RunConfig
from lgmamba.config.study import Params
from lgmamba.config.training import is_run_name

SPECIALIST, GENERALIST, SEVERAL, ADAPTIVE = "specialist", "generalist", "several read-outs", "length-adaptive"
MANY_MIXERS = 3
"""Sequence mixers in one study from which on they are compared with each other."""
MANY_FORMS = 3
"""Length-adaptive runs with one generalist from which on they are compared with each other."""
KINDS = (SPECIALIST, GENERALIST, SEVERAL, ADAPTIVE)  # the order in which figures and tables list them


def kind_of(run: RunConfig) -> str:
    """specialist: one length, loss on the last step; generalist: many lengths; several read-outs: loss on many steps of a
    sequence, whatever its length; length-adaptive: told the length.
    """
    if run.model.adaptive is not None:
        return ADAPTIVE
    if run.task.supervision.kind != "last":
        return SEVERAL
    return SPECIALIST if isinstance(run.task.lengths, Fixed) else GENERALIST


def is_bare(run: RunConfig) -> bool:
    """Whether it is one S6 layer alone, without blocks around it."""
    return getattr(run.task, "body", None) == "s6"


def describe_mixer(run: RunConfig) -> str:
    """The sequence mixer and its size, in a few words."""
    mixer = run.model.mixer
    return f"{mixer.title}, {mixer.description}"


def several_mixers(params: Params) -> bool:
    """Whether a study compares sequence mixers."""
    return len({run.model.mixer.model_dump_json() for run in params.runs_by_name().values()}) >= MANY_MIXERS


def describe_lengths(lengths: LengthConfig) -> str:
    """A distribution of training lengths in a few words, lengths in patches."""
    if isinstance(lengths, Curriculum):
        return f"{describe_lengths(lengths.start)} to {describe_lengths(lengths.end)}"
    match lengths.kind:
        case "mixture":
            total = sum(part.weight for part in lengths.parts)
            return ", ".join(f"{part.weight / total:.0%} {describe_lengths(part.lengths)}" for part in lengths.parts)
        case "fixed":
            return f"always {lengths.value}"
        case "uniform" | "log_uniform":
            return f"{lengths.kind.replace('_', '-')} {lengths.low}\u2013{lengths.high}"
        case "geometric":
            return f"geometric, mean {lengths.mean:g}, up to {lengths.max}"
        case "choice":
            several = len(lengths.weights) > 4
            return (
                f"{len(lengths.weights)} lengths up to {lengths.max}"
                if several
                else "one of " + ", ".join(map(str, sorted(lengths.weights)))
            )


def describe_run(run: RunConfig) -> str:
    """What distinguishes a run, in a few words: lengths, supervision, conditioning, states that it starts from."""
    parts = [describe_lengths(run.task.lengths)]
    supervision = run.task.supervision
    if supervision.kind != "last":
        parts.append("loss on every step" if supervision.kind == "all" else f"loss on {supervision.k} random steps")
    adaptive = run.model.adaptive
    if isinstance(adaptive, LengthTokenConfig):
        told = {"own": "T", "shuffled": "another sequence's T", "constant": f"always {adaptive.constant}"}[
            adaptive.told
        ]
        parts.append(f"told {told} by a token{', at most L0' if adaptive.beyond == 'clamp' else ''}")
    elif adaptive is not None:
        T = {"own": "T", "shuffled": "another sequence's T", "constant": f"always {adaptive.constant}"}[adaptive.told]
        told = T if adaptive.features == "T" else f"{T} and t/T"
        code = ", normalised" if adaptive.code == "normalised" else ""
        slowest = "" if adaptive.slowest is None else f", at most {adaptive.slowest:g} times slower"
        parts.append(f"told {told} ({adaptive.kind}{code}, {adaptive.beyond} beyond L0{slowest})")
    if (head := run.model.class_head) is not None:
        classifier = "a linear classifier" if not head.hidden else "an MLP classifier"
        parts.append(f"{classifier} beside the decoder, w = {run.train.class_weight:g}")
    if run.model.latent is not None:
        parts.append(f"latent of {run.model.latent}")
    if run.train.length_power:
        parts.append(f"loss times (T / L0)^{run.train.length_power:g}")
    if (passing := run.train.state_passing) is not None:
        origin = {"same_image": "the same image", "other_image": "another image", "noise": "noise like them"}[
            passing.kind
        ]
        parts.append(f"{passing.share:.0%} start from states of up to {passing.longest(run.L0)} steps, {origin}")
    return "; ".join(parts)


def describe_in(params: Params, name: str) -> str:
    """`describe_run` of a run, and how its training differs from the study's otherwise, but for its steps, which have a
    column.
    """
    run = params.runs_by_name()[name]
    own, shared, parts = run.train, params.train, [describe_run(run)]
    order = getattr(run.task, "order", None)  # not all tasks have one
    if order != getattr(params.task, "order", None):
        parts.append(f"order {order}")
    if own.init_from is not None:
        named = is_run_name(own.init_from)
        parts.append(f"from the weights of {own.init_from}" if named else "from given weights")
    if own.lr != shared.lr:
        parts.append(f"peak learning rate {own.lr:g}")
    if own.batch_size != shared.batch_size:
        parts.append(f"{own.batch_size} images a step")
    return "; ".join(parts)


def rate_sweep(params: Params) -> dict[str, dict[float, str]]:
    """What runs are called in common -> peak learning rate, ascending -> run; of a study whose runs all come at several rates, else alike.

    {}: another study.
    """
    groups: dict[str, dict[float, str]] = {}
    for name, run in params.runs_by_name().items():
        alike = run.model_copy(update={"run": "", "train": run.train.model_copy(update={"lr": 1.0})})
        groups.setdefault(alike.model_dump_json(), {})[run.train.lr] = name
    if any(len(by_rate) < 2 for by_rate in groups.values()):
        return {}
    called = [_in_common([*by_rate.values()]) for by_rate in groups.values()]
    if len(set(called)) < len(called):  # names that begin with the rate have the same in common, or nothing
        called = [next(iter(by_rate.values())) for by_rate in groups.values()]
    return {name: dict(sorted(by_rate.items())) for name, by_rate in zip(called, groups.values(), strict=True)}


def _in_common(names: list[str]) -> str:
    """The words that names begin with, all alike; the first name where there is none."""
    shared = itertools.takewhile(lambda words: len(set(words)) == 1, zip(*(n.split("_") for n in names), strict=False))
    return "_".join(words[0] for words in shared) or names[0]


@dataclass(frozen=True)
class Family:
    """Runs that one comparison of params.claims is about.

    Attributes:
        generalist, adaptive: names of runs.
        specialists: {length in patches: name of the run trained at that length}, ascending, within the generalist's lengths,
            with its budget, latent and heads, and without state passing.
        L0: the generalist's training length, patches.
        lengths: every length that the generalist was trained on, ascending.
    """

    generalist: str
    adaptive: str
    specialists: dict[int, str]
    L0: int
    lengths: tuple[int, ...]


def families(params: Params) -> list[Family]:
    """One family for each entry of claims.comparisons.

    Its specialists had the generalist's number of training steps, and its latent, class head and weight of classification; of several
    with one length the first counts.
    """
    runs = params.runs_by_name()
    found = []
    for comparison in params.claims.comparisons:
        pmf = runs[comparison.generalist].task.lengths.pmf()
        lengths = tuple(T for T, p in enumerate(pmf) if p > 0)
        specialists: dict[int, str] = {}
        for name, run in runs.items():
            one_length = kind_of(run) == SPECIALIST and run.train.state_passing is None
            if one_length and run.L0 in lengths and _trained_for(run) == _trained_for(runs[comparison.generalist]):
                specialists.setdefault(run.L0, name)
        ordered = dict(sorted(specialists.items()))
        found.append(
            Family(comparison.generalist, comparison.adaptive, ordered, runs[comparison.generalist].L0, lengths)
        )
    return found


def trained_to(params: Params, run: str) -> dict[int, str]:
    """Length T -> the run trained at that length alone, else as `run` is: the same model but for what tells a length, as many steps, the
    same order.

    Runs that start from other weights or from passed states are none; of several with one length the first counts, those of the run's
    own learning rate before others.
    """
    runs = params.runs_by_name()
    found: dict[int, str] = {}
    for name, other in sorted(runs.items(), key=lambda it: it[1].train.lr != runs[run].train.lr):
        fresh = other.train.state_passing is None and other.train.init_from is None
        if fresh and kind_of(other) == SPECIALIST and _but_lengths(other) == _but_lengths(runs[run]):
            found.setdefault(other.L0, name)
    return dict(sorted(found.items()))


def _but_lengths(run: RunConfig) -> tuple:
    order = getattr(run.task, "order", None)  # not all tasks have one
    return run.model.model_copy(update={"adaptive": None}).model_dump_json(), order, *_trained_for(run)


def _trained_for(run: RunConfig) -> tuple:
    """How long, and for what, a run was trained: where this differs, lengths are not all that a comparison is about."""
    return run.train.steps, run.train.class_weight, run.model.latent, run.model.class_head


def exemplary_runs(params: Params) -> list[str]:
    """Runs that show what the task is: the first family's longest specialist and generalist, or the first run of the longest L0."""
    runs = params.runs_by_name()
    for family in families(params):
        longest = [family.specialists[max(family.specialists)]] if family.specialists else []
        return [*longest, family.generalist]
    return [next(name for name, run in runs.items() if run.L0 == params.L0)]


def several_budgets(params: Params) -> bool:
    """Whether the study's families differ in their number of training steps."""
    return len({params.runs_by_name()[f.generalist].train.steps for f in families(params)}) > 1


def several_forms(params: Params) -> bool:
    """Whether MANY_FORMS or more length-adaptive runs are compared with one generalist."""
    return max(Counter(f.generalist for f in families(params)).values(), default=0) >= MANY_FORMS


def exchanges(params: Params) -> list[dict[float, str]]:
    """Weight of classification, ascending -> run: one for each group of runs that differ in it alone and have both of its ends."""
    groups: dict[str, dict[float, str]] = {}
    for name, run in params.runs_by_name().items():
        if run.train.class_weight is not None:
            groups.setdefault(_but_weight(run), {})[run.train.class_weight] = name
    return [dict(sorted(group.items())) for group in groups.values() if {0.0, 1.0} <= group.keys()]


def trades_classes(params: Params) -> bool:
    """Whether a study has such runs."""
    return bool(exchanges(params))


def _but_weight(run: RunConfig) -> str:
    train = run.train.model_copy(update={"class_weight": 0.0})
    return run.model_copy(update={"run": "any", "train": train}).model_dump_json()
