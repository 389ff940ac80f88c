"""Images -> trained runs -> reconstructions -> frames. Each rule is one call of `python -m lgmamba`, see lgmamba/jobs.py."""

from lgmamba.analysis import frames_of
from lgmamba.config.files import evaluation_files, remedy_files
from lgmamba.devices import wanted

DATA_FILES = [f"{PARAMS.outputs.data}/manifest.json"]
TRAIN_FILES = ["run.json", "train.json", "history.parquet", "model.safetensors"]
EVALUATION_FILES = evaluation_files(PARAMS.task)
# and artefacts/, of the remedies that have some
REMEDY_FILES = remedy_files(PARAMS.task)
PROBES_FRAMES = PARAMS.probes.frames if PARAMS.probes is not None else ()
PROBES_FILES = ["probes.json", *(f"{name}.parquet" for name in PROBES_FRAMES)]
RESULTS = str(PARAMS.outputs.results)
RUN = f"{RESULTS}/runs/{{run}}/seed{{seed}}"
LOGS = f"{RESULTS}/logs"
TIMES = f"{RESULTS}/benchmarks"
USES_GPU = wanted(PARAMS.device)
ENV = "../envs/lgmamba.yaml"


wildcard_constraints:
    run="|".join(RUNS),
    seed="|".join(sorted({str(seed) for _, seed in PARAMS.run_configs()})),


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
        weights=lambda w: ancient(initial_weights(w)),
    output:
        [f"{RUN}/train/{name}" for name in (*TRAIN_FILES, RECORD)],
    log:
        f"{LOGS}/train/{{run}}/seed{{seed}}.log",
    benchmark:
        f"{TIMES}/train/{{run}}/seed{{seed}}.tsv"
    conda:
        ENV
    threads: train_threads
    resources:
        gpu=USES_GPU,
    params:
        words=words("train"),
        why=why("train"),
    message:
        "Train {wildcards.run}, seed {wildcards.seed} ({params.why}; progress: {log})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule reconstruct:
    input:
        unless_current("reconstruct"),
        data=ancient(DATA_FILES),
        train=ancient([f"{RUN}/train/{name}" for name in TRAIN_FILES]),
    output:
        [f"{RUN}/evaluation/{name}" for name in (*EVALUATION_FILES, RECORD)],
    log:
        f"{LOGS}/reconstruct/{{run}}/seed{{seed}}.log",
    benchmark:
        f"{TIMES}/reconstruct/{{run}}/seed{{seed}}.tsv"
    conda:
        ENV
    threads: train_threads
    resources:
        gpu=USES_GPU,
    params:
        words=words("reconstruct"),
        why=why("reconstruct"),
    message:
        "Reconstruct held-out images at every step with {wildcards.run}, seed {wildcards.seed} ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule remedy:
    input:
        unless_current("remedy"),
        data=ancient(DATA_FILES),
        train=ancient([f"{RUN}/train/{name}" for name in TRAIN_FILES]),
    output:
        [f"{RUN}/remedies/{name}" for name in (*REMEDY_FILES, RECORD)],
    log:
        f"{LOGS}/remedy/{{run}}/seed{{seed}}.log",
    benchmark:
        f"{TIMES}/remedy/{{run}}/seed{{seed}}.tsv"
    conda:
        ENV
    threads: train_threads
    resources:
        gpu=USES_GPU,
    params:
        words=words("remedy"),
        why=why("remedy"),
    message:
        "Try remedies on {wildcards.run}, seed {wildcards.seed} ({params.why}; progress: {log})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule probes:
    input:
        unless_current("probes"),
        data=ancient(DATA_FILES),
        train=ancient([f"{RUN}/train/{name}" for name in TRAIN_FILES]),
    output:
        [f"{RUN}/probes/{name}" for name in (*PROBES_FILES, RECORD)],
    log:
        f"{LOGS}/probes/{{run}}/seed{{seed}}.log",
    benchmark:
        f"{TIMES}/probes/{{run}}/seed{{seed}}.tsv"
    conda:
        ENV
    threads: train_threads
    resources:
        gpu=USES_GPU,
    params:
        words=words("probes"),
        why=why("probes"),
    message:
        "Look into {wildcards.run}, seed {wildcards.seed} ({params.why}; progress: {log})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"


rule evaluate:
    input:
        unless_current("evaluate"),
        train=ancient(every_run("train", TRAIN_FILES)),
        evaluation=ancient(every_run("evaluation", EVALUATION_FILES)),
        remedies=ancient(extended_runs("remedies", REMEDY_FILES)),
        probes=ancient(probed_runs("probes", PROBES_FILES)),
    output:
        [f"{RESULTS}/frames/{name}" for name in (*frames_of(PARAMS), RECORD)],
    log:
        f"{LOGS}/evaluate.log",
    benchmark:
        f"{TIMES}/evaluate.tsv"
    conda:
        ENV
    threads: 4
    params:
        words=words("evaluate"),
        why=why("evaluate"),
    message:
        "Gather every run into frames and test the claims ({params.why})"
    shell:
        "python -m {params.words:q} > {log:q} 2>&1"
