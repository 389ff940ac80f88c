"""MLflow, where tracking.kind is mlflow: the store is made before the first job, and told of the report at the end."""


localrules:
    track_report,


# Not a rule: were the store an input of `train`, then a lost store would retrain every run. Trainings that start at the
# same moment could make it themselves (lgmamba/track/store.py holds a lock); this only saves them the wait.
onstart:
    if PARAMS.tracking.kind == "mlflow" and not KEPT and not os.path.exists(PARAMS.tracking.store / "mlflow.db"):
        shell("python -m lgmamba track init --config {LAYOUT.tracking}")


rule track_report:
    input:
        config=str(LAYOUT.tracking),
        study=str(LAYOUT.study),
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
