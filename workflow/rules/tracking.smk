"""What a call does when it begins and ends, and MLflow, where tracking.kind is mlflow."""

from lgmamba.config.files import write_config_files


localrules:
    track_report,


# Only a call that runs something comes here, and it holds its lock. The files that stages read are named by their digests:
# whatever another call writes, they stay what they are. The store is no rule: were it an input of `train`, then a lost store
# would retrain every run. Trainings could make it themselves (lgmamba/track/store.py holds a lock, so that one that comes early
# waits); this does while images are decoded.
onstart:
    none_from_the_future()
    if not KEPT:
        write_config_files(PARAMS)
        make_store()
    serve_preloaded()


onerror:
    store_is_made()


onsuccess:
    store_is_made()
    if any(job.rule.name == "report" for job in workflow.dag.jobs):
        logger.info(f"Report of study {PARAMS.study}: {PARAMS.outputs.reports}/report.html (and report.md)")


rule track_report:
    input:
        unless_current("track_report"),
        report=ancient([f for f in rules.report.output if not f.endswith(RECORD)]),
    output:
        f"{LAYOUT.markers}/{RECORD}",
    log:
        f"{LOGS}/track_report.log",
    benchmark:
        f"{TIMES}/track_report.tsv"
    conda:
        ENV
    params:
        words=words("track_report"),
    message:
        "Show the report in the tracking store"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"
