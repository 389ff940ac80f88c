"""From images to the report. Numbers live in params.yaml; another study: `snakemake --cores 4 --config preset=smoke`."""

import os
import sys

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, workflow.basedir)  # this checkout's lgmamba, wherever another one may be installed

from lgmamba.config.files import Layout


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


if os.path.isfile(os.path.join(workflow.basedir, "workflow/tradeoff", f"{config.get('preset')}.yaml")):

    include: "workflow/rules/tradeoff.smk"

else:
    PARAMS = study_params()  # every wrong value ends the call here, before any job
    KEPT = frames_are_kept()
    if not KEPT:
        check_images()
    RUNS = PARAMS.runs_by_name()
    LAYOUT = Layout(PARAMS.outputs.results)
    JOBS = jobs_here()

    include: "workflow/rules/stages.smk"
    include: "workflow/rules/report.smk"
    include: "workflow/rules/tracking.smk"


rule all:
    default_target: True
    input:
        final_files(),
