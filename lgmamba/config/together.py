"""What the sections of a study must agree on: whatever can be known before any job runs is said before any.

Each check takes a study whose runs are expanded, and raises ValueError with the path of the key, what was found and what was
expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lgmamba.config.base import LONGEST
from lgmamba.config.probes import NEEDS, why_not, why_not_task
from lgmamba.config.remedies import check_kinds, check_mixers, check_names, mode_of, rows_of
from lgmamba.config.training import is_run_name

if TYPE_CHECKING:
    from lgmamba.config.claims import Side
    from lgmamba.config.run import RunConfig
    from lgmamba.config.study import Params
    from lgmamba.config.task import TaskBase

JUDGED_FROM = 2.0
"""Multiples of L0 from which on remedies are judged."""


def check_study(study: Params) -> None:
    """All of the checks below."""
    checks = (
        check_patches,
        check_one_task,
        check_images,
        check_classes,
        check_orders,
        check_comparisons,
        check_remedy_evaluation,  # before what looks at the entries by the names that combinations give
        check_contrasts,
        check_probes,
        check_shown,
        check_lengths,
        check_initial_weights,
        check_splits,
    )
    for check in checks:
        check(study)


def check_patches(study: Params) -> None:
    """Patches divide the images, where their size is known; else the images say, once they are built."""
    if study.data.size is None:
        return
    for name, run in study.runs_by_name().items():
        if min(study.data.size) < run.task.least_side:
            raise ValueError(
                f"runs.{name}: found task.patch_size {run.task.least_side}, expected: at most {min(study.data.size)}, the smaller "
                "side of data.image_size in pixels"
            )
        for found in run.task.divisors:
            if any(side % found for side in study.data.size):
                size = " x ".join(map(str, study.data.size))
                raise ValueError(
                    f"runs.{name}: found task.patch_size {found}, expected: a divisor of data.image_size, {size} pixels"
                )


def check_one_task(study: Params) -> None:
    """All runs have the study's task: errors of different tasks cannot be compared."""
    for name, run in study.runs_by_name().items():
        if run.task.kind != study.task.kind:
            raise ValueError(
                f"runs.{name}.task.kind: found {run.task.kind!r}, expected: {study.task.kind!r}, the study's; another task is "
                "another study"
            )


def check_images(study: Params) -> None:
    """Tasks that need images or text have a source of some, and those that make their samples themselves have none."""
    kind = study.data.source.kind
    found = kind if kind in ("none", "text") else "a source of images"
    for name, run in study.runs_by_name().items():
        what = "a source of images" if run.task.IMAGES else "text" if run.task.TEXT else "none"
        if what != found:
            raise ValueError(
                f"data.source.kind: found {study.data.source.kind!r}, expected: {what}, for task {run.task.kind} of run {name!r}"
            )


def check_classes(study: Params) -> None:
    """Images have classes where a run names them, and no latent is larger than the image."""
    for name, run in study.runs_by_name().items():
        size, latent, head = study.data.size, run.model.latent, run.model.class_head
        if size is not None and latent is not None:
            numbers = (1 if study.data.channels == "grey" else 3) * size[0] * size[1]
            if latent > numbers:
                raise ValueError(
                    f"runs.{name}.model.latent: found {latent}, expected: at most the {numbers:,} numbers of an image"
                )
        if head is None:
            continue
        if getattr(study.data.source, "label_column", "") is None:
            raise ValueError(
                "data.source.label_column: found null, expected: the column with the classes that are told apart "
                f"(model.class_head of run {name!r})"
            )
        if study.data.n_classes not in (None, head.classes):
            raise ValueError(
                f"runs.{name}.model.class_head.classes: found {head.classes}, expected: {study.data.n_classes}, data.n_classes"
            )


def check_orders(study: Params) -> None:
    """Every task has the ways of drawing sequences that the study reads held-out ones in."""
    runs = study.runs_by_name()
    named = [(f"evaluation.orders.{i}", order, list(runs)) for i, order in enumerate(study.evaluation.orders)]
    if study.remedy_evaluation is not None:
        tried = [name for name in study.remedy_evaluation.runs if name in runs]
        named += [
            (f"remedy_evaluation.orders.{i}", order, tried) for i, order in enumerate(study.remedy_evaluation.orders)
        ]
        named += [("remedy_evaluation.calibration.order", study.remedy_evaluation.calibration.order, tried)]
    if study.probes is not None:
        named += [("probes.order", study.probes.order, [name for name in study.probes.runs if name in runs])]
    for path, order, names in named:
        for name in names:
            task = runs[name].task
            if order not in task.ORDERS:
                raise ValueError(
                    f"{path}: found {order!r}, expected: one of {', '.join(task.ORDERS)} (task {task.kind} of run {name!r})"
                )


def check_comparisons(study: Params) -> None:
    """Comparisons name runs that exist and play their part."""
    runs = study.runs_by_name()
    for i, c in enumerate(study.claims.comparisons):
        path = f"claims.comparisons.{i}"
        for role in ("generalist", "adaptive"):
            _known(f"{path}.{role}", getattr(c, role), runs)
        if runs[c.generalist].model.adaptive is not None:
            raise ValueError(
                f"{path}.generalist: found {c.generalist!r}, whose model.adaptive is set; expected: a plain run"
            )
        if runs[c.adaptive].model.adaptive is None:
            raise ValueError(
                f"{path}.adaptive: found {c.adaptive!r}, whose model.adaptive is null; expected: a length-adaptive run"
            )


def check_contrasts(study: Params) -> None:
    """Contrasts name runs and remedies that exist, at lengths that are read."""
    runs, treated = study.runs_by_name(), study.remedy_evaluation
    remedies = {entry.name for entry in study.remedies} | set(rows_of(study.task))
    for i, contrast in enumerate(study.claims.primary):
        for role, side in (("of", contrast.of), ("minus", contrast.minus)):
            path = f"claims.primary.{i}.{role}"
            _known(f"{path}.run", side.run, runs)
            for j, name in enumerate(side.also or []):
                _known(f"{path}.also.{j}", name, runs)
            for name in side.runs:
                if side.metric == "accuracy" and runs[name].model.class_head is None:
                    raise ValueError(
                        f"{path}.metric: found accuracy, expected: null, since run {name!r} names no class (model.class_head)"
                    )
            L0 = runs[side.run].L0
            for name in side.treated:
                if treated is None or side.run not in treated.runs:
                    raise ValueError(
                        f"{path}.run: found {side.run!r}, expected: one of remedy_evaluation.runs, since {name!r} is read on it"
                    )
                if name not in remedies:
                    raise ValueError(f"{path}: found remedy {name!r}, expected: one of {sorted(remedies)}")
            _check_reading(study, path, side)
            if side.read_out:
                _check_read_out(study, path, side)
            read = set(treated.steps(L0)) if side.treated and treated is not None else None
            for step in sorted({step for name in side.runs for step in side.steps_read(runs[name].L0)}):
                if read is not None and step not in read:
                    raise ValueError(
                        f"{path}.at: found {step} steps, expected: one of those of remedy_evaluation, {sorted(read)}"
                    )
                if step > study.evaluation.max_length_ratio * study.L0:
                    raise ValueError(
                        f"{path}.at: found {step} steps, expected: at most evaluation.max_length_ratio x L0, "
                        f"{study.evaluation.max_length_ratio * study.L0:g}"
                    )
            if any(side.steps(runs[name].L0) == side.steps_less(runs[name].L0) for name in side.runs):
                raise ValueError(
                    f"{path}.less: found {side.less}, expected: other steps than those of at, {side.at}; this change is always 0"
                )
        if _as_read(study, contrast.of) == _as_read(study, contrast.minus):
            raise ValueError(
                f"claims.primary.{i}.minus: found what of is, expected: another side; the difference of these is always 0"
            )


def _as_read(study: Params, side: Side) -> tuple:
    """What a side is of, with its lengths in steps and its order by name: equal for two ways to write one side."""
    L0s = [study.runs_by_name()[name].L0 for name in side.runs]
    lengths = [(side.steps(L0), side.steps_less(L0)) for L0 in L0s]
    return side.model_dump(exclude={"at", "less", "order"}), side.order or study.evaluation.orders[0], lengths


def _check_reading(study: Params, path: str, side: Side) -> None:
    """A side is read in an order and mode that are read, and its method is one that the task has; read-outs have orders of their own."""
    if not side.read_out:
        section = "remedy_evaluation" if side.treated and study.remedy_evaluation is not None else "evaluation"
        orders = getattr(study, section).orders
        if (order := side.order or study.evaluation.orders[0]) not in orders:
            raise ValueError(f"{path}.order: found {order}, expected: one of {section}.orders, {orders}")
        if side.method not in (known := ("model", *baselines_of(study.task))):
            raise ValueError(
                f"{path}.method: found {side.method}, expected: one of {list(known)}, which task {study.task.kind} has"
            )
    own = {entry.name: mode_of(entry, study.remedies) for entry in study.remedies}
    for name in side.treated:
        if side.mode == "stream" and own.get(name) == "prefix":
            raise ValueError(
                f"{path}.mode: found stream, expected: prefix, or nothing, since {name!r} is read in its own mode, which is prefix"
            )


def baselines_of(task: TaskBase) -> tuple[str, ...]:
    """Methods of a task's frames that a claim may name, beside the model."""
    drawn = ("paper", "nearest") if task.IMAGES and task.READS == "places" else ()
    return (task.NULL, *(() if task.ORACLE is None else (task.ORACLE,)), *drawn)


def _check_read_out(study: Params, path: str, side: Side) -> None:
    """Read-outs are fitted for the side's runs, at its lengths, as it reads. A study without them leaves the claim untested."""
    probes = study.probes
    if probes is None or "read_outs" not in probes.kinds:
        return
    for name in side.runs:
        if name not in probes.runs:
            raise ValueError(
                f"{path}.run: found {name!r}, expected: one of probes.runs, {probes.runs}, whose read-outs are fitted"
            )
        L0 = study.runs_by_name()[name].L0
        fitted = probes.read_out_steps(L0)
        for step in side.steps_read(L0):
            if step not in fitted:
                raise ValueError(f"{path}.at: found {step} steps, expected: one of probes.read_out_at, {fitted}")
    if (order := side.order or study.evaluation.orders[0]) != probes.order:
        raise ValueError(
            f"{path}.order: found {order}, expected: {probes.order}, probes.order, in which read-outs are fitted"
        )


def check_remedy_evaluation(study: Params) -> None:
    """Remedies have names of their own, runs to be tried on that they fit, and lengths at which they are judged."""
    check_names(study.remedies)
    if study.remedy_evaluation is None:
        if study.remedies:
            raise ValueError("remedy_evaluation: required where remedies are listed; found null")
        return
    runs = study.runs_by_name()
    for i, name in enumerate(study.remedy_evaluation.runs):
        _known(f"remedy_evaluation.runs.{i}", name, runs)
        if name in study.remedy_evaluation.runs[:i]:
            raise ValueError(f"remedy_evaluation.runs.{i}: found {name!r} twice, expected: each run once")
        for j, entry in enumerate(study.remedies):
            layers = getattr(entry, "layers", None)
            if isinstance(layers, list) and max(layers) >= runs[name].model.n_layer:
                raise ValueError(
                    f"remedies.{j}.layers: found {layers}, expected: layers 0..{runs[name].model.n_layer - 1} of run {name!r}"
                )
            if entry.kind == "longmamba" and round((entry.clamp or 0) * runs[name].L0) >= runs[name].L0:
                raise ValueError(
                    f"remedies.{j}.clamp: found {entry.clamp}, expected: a share that leaves one of the L0 = {runs[name].L0} steps "
                    f"of run {name!r}"
                )
    tried = {name: runs[name] for name in study.remedy_evaluation.runs}
    check_kinds(study.remedies, tried, study.remedy_evaluation.orders)
    check_mixers(study.remedies, tried)
    if max(study.remedy_evaluation.length_ratios) < JUDGED_FROM:
        raise ValueError(
            f"remedy_evaluation.length_ratios: found {study.remedy_evaluation.length_ratios}, expected: one of {JUDGED_FROM:g} or more, "
            "from where on "
            "remedies are judged"
        )


def check_probes(study: Params) -> None:
    """Runs that are looked into exist, and have mixers that can be looked into."""
    runs = study.runs_by_name()
    for i, name in enumerate([] if study.probes is None else study.probes.runs):
        _known(f"probes.runs.{i}", name, runs)
        kinds, task = study.the_probes.kinds, runs[name].task
        for kind in kinds:
            if (why := why_not_task(kind, task)) is not None:
                able = [other for other in NEEDS if why_not_task(other, task) is None]
                raise ValueError(
                    f"probes: found runs of task {task.kind}, expected: {f'kinds: {able}' if able else 'null'}, since {why}"
                )
        if reasons := [reason for kind in kinds if (reason := why_not(kind, runs[name].model))]:
            raise ValueError(
                f"probes.runs.{i}: found {name!r}, which cannot be looked into: {reasons[0]}; expected runs of another mixer"
            )


def check_shown(study: Params) -> None:
    """Runs that are shown exist, each once, and every figure that draws some of the runs has one of them."""
    shown, runs = study.report.shown, study.runs_by_name()
    if shown is None:
        return
    for i, name in enumerate(shown):
        _known(f"report.shown.{i}", name, runs)
        if name in shown[:i]:
            raise ValueError(f"report.shown.{i}: found {name!r} twice, expected: each run once")
    for section, others in (("remedy_evaluation", study.remedy_evaluation), ("probes", study.probes)):
        if others is not None and not set(others.runs) & set(shown):
            raise ValueError(
                f"report.shown: found {shown}, expected: among them one of {section}.runs, {others.runs}, which have figures of their own"
            )


def check_initial_weights(study: Params) -> None:
    """Runs that start from another run's weights name one of the study's, and not each other in a circle."""
    runs = study.runs_by_name()
    for name, run in runs.items():
        seen, source = [name], run.train.init_from
        while source is not None and is_run_name(source):
            _known(f"runs.{seen[-1]}.train.init_from", source, runs)
            if source in seen:
                raise ValueError(
                    f"runs.{name}.train.init_from: found {run.train.init_from!r}, expected: weights that do not come from {source!r} itself"
                )
            seen.append(source)
            source = runs[source].train.init_from


def check_lengths(study: Params) -> None:
    """No sequence is longer than anyone can wait for, or than its task can make it."""
    asked = {"evaluation.max_length_ratio": study.evaluation.max_length_ratio}
    if study.remedy_evaluation is not None:
        asked["remedy_evaluation.length_ratios"] = max(study.remedy_evaluation.length_ratios)
        asked["remedy_evaluation.calibration.lengths"] = max(study.remedy_evaluation.calibration.lengths)
    if study.probes is not None:
        asked["probes.length_ratios"] = max(study.probes.length_ratios)
        asked["probes.read_out_at"] = study.probes.read_out_steps(study.L0)[-1] / study.L0
    for path, factor in asked.items():
        if factor * study.L0 > LONGEST:
            raise ValueError(
                f"{path}: found {factor:g}, expected: sequences of at most {LONGEST:,} patches; with L0 = {study.L0} they would "
                f"have {factor * study.L0:,.0f}"
            )
    _check_orders_reach(study)


def _check_orders_reach(study: Params) -> None:
    source = study.data.source
    read = [
        ("evaluation.max_length_ratio", study.evaluation.max_length_ratio * study.L0, name, study.evaluation.orders)
        for name in study.runs
    ]
    if study.remedy_evaluation is not None:
        calibration, L0 = (
            study.remedy_evaluation.calibration,
            {name: run.L0 for name, run in study.runs_by_name().items()},
        )
        for name in study.remedy_evaluation.runs:
            read += [
                (
                    "remedy_evaluation.length_ratios",
                    max(study.remedy_evaluation.length_ratios) * L0[name],
                    name,
                    study.remedy_evaluation.orders,
                ),
                (
                    "remedy_evaluation.calibration.lengths",
                    max(calibration.lengths) * L0[name],
                    name,
                    [calibration.order],
                ),
            ]
    for path, steps, name, orders in read:
        task = study.runs_by_name()[name].task
        for order in orders:
            most = task.longest_in(source.window) if source.kind == "text" else task.longest(order)
            if most is not None and steps > most:
                raise ValueError(
                    f"{path}: found sequences of {steps:,.0f} steps, expected: at most {most:,}, all that order {order} of task "
                    f"{task.kind} has{' in data.source.window' if source.kind == 'text' else ''} (run {name!r})"
                )


def check_splits(study: Params) -> None:
    """No split is empty that something reads."""
    splits = study.data.splits
    official = getattr(study.data.source, "test_path", None) is not None
    needed = {"val": "trainings are watched on it"}
    if study.evaluation.split == "test" and not official:
        needed["test"] = "evaluation.split reads it"
    if study.remedy_evaluation is not None and any(remedy.calibrated for remedy in study.remedies):
        needed["calib"] = "remedies are calibrated on it"
    for name, reason in needed.items():
        if getattr(splits, name) == 0:
            raise ValueError(f"data.splits.{name}: found 0, expected: more than 0, since {reason}")


def _known(path: str, name: str, runs: dict[str, RunConfig]) -> None:
    if name not in runs:
        raise ValueError(f"{path}: found {name!r}, expected: one of the runs {sorted(runs)}")
