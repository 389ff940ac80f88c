"""A study of classification against reconstruction: images -> stacks -> frames -> figures -> report. Jobs: lgmamba/tradeoff/jobs.py."""

from lgmamba.analysis.kept import check_kept
from lgmamba.config.files import refuse_other_study
from lgmamba.data.artefact import MANIFEST
from lgmamba.data.errors import DataError
from lgmamba.devices import wanted
from lgmamba.data.labels import check_labels
from lgmamba.tradeoff.config import load_tradeoff
from lgmamba.tradeoff.jobs import FIGURES, drawn_jobs, jobs_of, keep_frames_job, stack_dir, write_files
from lgmamba.tradeoff.keys import FRAME_FILES


def tradeoff_params():
    """workflow/tradeoff/<preset>.yaml <- values given by hand (--config, --configfile), validated; also its classes."""
    given = {key: typed(value) for key, value in config.items() if key not in ("frames", "preset")}
    try:
        params = load_tradeoff(config["preset"], given, os.path.relpath(HOME))
        refuse_other_study(params)
        if frames_kept_asked_for():
            check_kept(params, params.outputs.reports / "frames")
        elif not (params.outputs.data / MANIFEST).is_file():
            check_labels(params.data)
        return params
    except (ConfigError, DataError) as e:
        raise WorkflowError(str(e)) from None


def tradeoff_jobs():
    """Every job of the study; figures and report alone from frames that are kept."""
    if not KEPT:
        return jobs_of(PARAMS) | {("keep_frames",): keep_frames_job(PARAMS)}
    frames = PARAMS.outputs.reports / "frames"
    return drawn_jobs(PARAMS, frames, frames / "study.json")


KEPT = frames_kept_asked_for()
PARAMS = tradeoff_params()
STACKS = PARAMS.stacks()
USES_GPU = wanted(PARAMS.device)
LAYOUT = Layout(PARAMS.outputs.results)
JOBS = tradeoff_jobs()
RESULTS, REPORTS = str(PARAMS.outputs.results), str(PARAMS.outputs.reports)
LOGS, TIMES = f"{RESULTS}/logs", f"{RESULTS}/benchmarks"
DATA_FILES = [f"{PARAMS.outputs.data}/{MANIFEST}"]
STACK = str(stack_dir(PARAMS.outputs.results, "{stack}"))
KEPT_FRAMES = [f"{REPORTS}/frames/{name}" for name in (*FRAME_FILES, "study.json", RECORD)]
MADE_FRAMES = [f"{RESULTS}/frames/{name}" for name in FRAME_FILES]
ENV = "../envs/lgmamba.yaml"


wildcard_constraints:
    stack="|".join(STACKS),
    figure="|".join(FIGURES),


onstart:
    none_from_the_future()
    if not KEPT:
        write_files(PARAMS)
    serve_preloaded()


onsuccess:
    if any(job.rule.name == "report" for job in workflow.dag.jobs):
        logger.info(f"Report of study {PARAMS.study}: {REPORTS}/report.html (and report.md)")


rule data:
    input:
        unless_current("data"),
    output:
        DATA_FILES,
        f"{PARAMS.outputs.data}/{RECORD}",
    log:
        f"{LOGS}/data.log",
    benchmark:
        f"{TIMES}/data.tsv"
    conda:
        ENV
    threads: 4
    params:
        words=words("data"),
        why=why("data"),
    message:
        "Decode the images ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule train:
    input:
        unless_current("train"),
        data=ancient(DATA_FILES),
    output:
        f"{STACK}/points.parquet",
        f"{STACK}/{RECORD}",
    log:
        f"{LOGS}/train/{{stack}}.log",
    benchmark:
        f"{TIMES}/train/{{stack}}.tsv"
    conda:
        ENV
    threads: PARAMS.tradeoff.train.cpu_threads
    resources:
        gpu=USES_GPU,
    params:
        words=words("train"),
        why=why("train"),
    message:
        "Train {wildcards.stack}, all seeds and weights side by side ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule evaluate:
    input:
        unless_current("evaluate"),
        stacks=ancient(expand(f"{STACK}/points.parquet", stack=STACKS)),
    output:
        MADE_FRAMES,
        f"{RESULTS}/frames/{RECORD}",
    log:
        f"{LOGS}/evaluate.log",
    benchmark:
        f"{TIMES}/evaluate.tsv"
    conda:
        ENV
    params:
        words=words("evaluate"),
        why=why("evaluate"),
    message:
        "Gather every stack into frames and test the claims ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule figure:
    input:
        unless_current("figure"),
        frames=ancient(KEPT_FRAMES if KEPT else MADE_FRAMES),
    output:
        [f"{REPORTS}/figures/{{figure}}.{suffix}" for suffix in ("png", "pdf", "csv", RECORD)],
    log:
        f"{LOGS}/figure/{{figure}}.log",
    benchmark:
        f"{TIMES}/figure/{{figure}}.tsv"
    conda:
        ENV
    params:
        words=words("figure"),
        why=why("figure"),
    message:
        "Draw {wildcards.figure} ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule report:
    input:
        unless_current("report"),
        frames=ancient(KEPT_FRAMES if KEPT else MADE_FRAMES),
        figures=ancient(expand(f"{REPORTS}/figures/{{figure}}.png", figure=FIGURES)),
    output:
        [f"{REPORTS}/{name}" for name in ("report.md", "report.html", "headline.json", RECORD)],
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{TIMES}/report.tsv"
    conda:
        ENV
    params:
        words=words("report"),
        why=why("report"),
    message:
        "Write {output[0]} and report.html ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


# Only when asked for. Its outputs are in git; while figures are made from them, nothing makes them.
if not KEPT:

    rule keep_frames:
        input:
            unless_current("keep_frames"),
            frames=ancient(MADE_FRAMES),
            report=ancient(rules.report.output),
        output:
            KEPT_FRAMES,
        log:
            f"{LOGS}/keep_frames.log",
        localrule: True
        conda:
            ENV
        params:
            words=words("keep_frames"),
            why=why("keep_frames"),
        message:
            "Keep beside the report what figures and report read ({params.why})"
        shell:
            "python -m {params.words:q} > {log:q} 2>&1; tail -n 1 {log:q}"


def final_files():
    """What `snakemake` without a target makes."""
    return rules.report.output
