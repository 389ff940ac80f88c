"""Frames -> figures -> report. Frames are those of `evaluate`, or (--config frames=kept) those kept beside the report."""

from lgmamba.analysis import figures_of, kept_frames
from lgmamba.analysis.titles import titles

REPORTS = str(PARAMS.outputs.reports)
KEPT_FRAMES = [f"{REPORTS}/frames/{name}" for name in (*kept_frames(PARAMS), "study.json", RECORD)]
FRAMES = [f for f in (KEPT_FRAMES if KEPT else rules.evaluate.output) if KEPT or not f.endswith(RECORD)]


rule figure:
    input:
        unless_current("figure"),
        frames=ancient(FRAMES),
    output:
        png=report(
            f"{REPORTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda w: {"figure": titles(PARAMS)[w.figure]},
        ),
        pdf=f"{REPORTS}/figures/{{figure}}.pdf",
        csv=f"{REPORTS}/figures/{{figure}}.csv",
        record=f"{REPORTS}/figures/{{figure}}.{RECORD}",
    log:
        f"{LOGS}/figure/{{figure}}.log",
    benchmark:
        f"{TIMES}/figure/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(figures_of(PARAMS)),
    conda:
        ENV
    params:
        words=words("figure"),
        why=why("figure"),
    message:
        "Draw {wildcards.figure} ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule figures:
    input:
        expand(rules.figure.output, figure=figures_of(PARAMS)),


rule report:
    input:
        unless_current("report"),
        frames=ancient(FRAMES),
        figures=ancient([f for f in rules.figures.input if not f.endswith(RECORD)]),
    output:
        f"{REPORTS}/report.md",
        f"{REPORTS}/details.md",
        f"{REPORTS}/details.html",
        f"{REPORTS}/report.html",
        report(
            f"{REPORTS}/explorer.html",
            caption="../report/explorer.rst",
            category="Step by step",
            labels={"page": "Step explorer"},
        ),
        f"{REPORTS}/headline.json",
        f"{REPORTS}/metrics.json",
        f"{REPORTS}/{RECORD}",
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
        "Write {output[0]}, report.html and explorer.html ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


# Only when asked for. Its outputs are in git; while figures are made from them, nothing makes them.
if not KEPT:

    rule keep_frames:
        input:
            unless_current("keep_frames"),
            frames=ancient(rules.evaluate.output),
            report=ancient(rules.report.output),
        output:
            KEPT_FRAMES,
        log:
            f"{LOGS}/keep_frames.log",
        benchmark:
            f"{TIMES}/keep_frames.tsv"
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
