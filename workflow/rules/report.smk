"""Frames -> figures -> report."""

from lgmamba.analysis import figures_of

REPORTS = str(PARAMS.outputs.reports)


rule figure:
    input:
        study=str(LAYOUT.study),
        code=str(LAYOUT.code("figure")),
        frames=rules.evaluate.output,
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
        study=str(LAYOUT.study),
        code=str(LAYOUT.code("report")),
        frames=rules.evaluate.output,
        figures=rules.figures.input,
    output:
        f"{REPORTS}/report.md",
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
