"""Frames -> figures -> report. Frames are those of `evaluate`, or (--config frames=kept) those kept beside the report."""

from lgmamba.analysis import figures_of, kept_frames

REPORTS = str(PARAMS.outputs.reports)
KEPT_STUDY = f"{REPORTS}/frames/study.json"
KEPT_FRAMES = [f"{REPORTS}/frames/{name}" for name in kept_frames(PARAMS)]
STUDY, FRAMES = (KEPT_STUDY, KEPT_FRAMES) if KEPT else (str(LAYOUT.study), rules.evaluate.output)


rule figure:
    input:
        study=STUDY,
        code=str(LAYOUT.code("figure")),
        frames=FRAMES,
    output:
        png=report(
            f"{REPORTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=f"{REPORTS}/figures/{{figure}}.pdf",
        csv=f"{REPORTS}/figures/{{figure}}.csv",
    log:
        f"{LOGS}/figure/{{figure}}.log",
    benchmark:
        f"{TIMES}/figure/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(figures_of(PARAMS)),
    conda:
        ENV
    params:
        frames=lambda w, input: dirname(input.frames[0]),
        out=folder_of_output,
    message:
        "Draw {wildcards.figure}"
    shell:
        "python -m lgmamba figure {wildcards.figure} --study {input.study} --frames {params.frames}"
        " --out {params.out} > {log} 2>&1"


rule figures:
    input:
        expand(rules.figure.output, figure=figures_of(PARAMS)),


rule report:
    input:
        study=STUDY,
        code=str(LAYOUT.code("report")),
        frames=FRAMES,
        figures=rules.figures.input,
    output:
        f"{REPORTS}/report.md",
        f"{REPORTS}/details.md",
        f"{REPORTS}/details.html",
        f"{REPORTS}/report.html",
        f"{REPORTS}/headline.json",
        f"{REPORTS}/metrics.json",
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{TIMES}/report.tsv"
    conda:
        ENV
    params:
        frames=lambda w, input: dirname(input.frames[0]),
        figures=lambda w, input: dirname(input.figures[0]),
        out=folder_of_output,
    message:
        "Write {params.out}/report.md and report.html"
    shell:
        "python -m lgmamba report --study {input.study} --frames {params.frames} --figures {params.figures}"
        " --out {params.out} > {log} 2>&1"


# Only when asked for. Its outputs are in git; while figures are made from them, nothing makes them.
if not KEPT:

    rule keep_frames:
        input:
            study=str(LAYOUT.study),
            frames=[f"{LAYOUT.frames}/{name}" for name in kept_frames(PARAMS)],
            report=rules.report.output,
        output:
            KEPT_STUDY,
            KEPT_FRAMES,
        log:
            f"{LOGS}/keep_frames.log",
        benchmark:
            f"{TIMES}/keep_frames.tsv"
        localrule: True
        conda:
            ENV
        params:
            out=folder_of_output,
        message:
            "Keep in {params.out} what figures and report read"
        shell:
            "{{ rm -f {params.out}/*.parquet; cp {input.study} {input.frames} {params.out}; du -ch {params.out}/*; }}"
            " > {log} 2>&1; tail -n 1 {log}"
