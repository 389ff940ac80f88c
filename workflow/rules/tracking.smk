"""MLflow, where tracking.kind is mlflow: made once before any training, told of the report at the end."""


localrules:
    store,
    track_report,


# Jobs that first open a store at the same moment would break it for good, so one rule makes it before any training.
# It also runs, and does nothing, without tracking: the inputs of `train` stay the same, and nothing retrains.
rule store:
    input:
        config=str(LAYOUT.tracking),
    output:
        touch(f"{LAYOUT.markers}/store"),
    log:
        f"{LOGS}/store.log",
    benchmark:
        f"{TIMES}/store.tsv"
    conda:
        ENV
    message:
        "Prepare tracking ({input.config})"
    shell:
        "python -m lgmamba track init --config {input.config} > {log} 2>&1"


rule track_report:
    input:
        config=str(LAYOUT.tracking),
        study=str(LAYOUT.study),
        store=ancient(rules.store.output),
        report=rules.report.output,
    output:
        touch(f"{LAYOUT.markers}/tracked"),
    log:
        f"{LOGS}/track_report.log",
    benchmark:
        f"{TIMES}/track_report.tsv"
    conda:
        ENV
    params:
        reports=lambda w, input: dirname(input.report[0]),
    message:
        "Show the report in the tracking store"
    shell:
        "python -m lgmamba track report --config {input.config} --study {input.study} --reports {params.reports}"
        " > {log} 2>&1"
