"""Images -> trained runs -> reconstructions -> frames. Each rule is one call of `python -m lgmamba`."""

from lgmamba.analysis import frames_of
from lgmamba.config.files import probe_files
from lgmamba.devices import wanted

DATA = str(PARAMS.outputs.data)
DATA_FILES = f"{DATA}/manifest.json"
TRAIN_FILES = ["run.json", "train.json", "history.parquet", "model.safetensors"]
PROBE_FILES = probe_files(PARAMS.task)
REMEDY_FILES = ["remedies.json", "steps.parquet", "retention.parquet"]  # and artefacts/, of the remedies that have some
INSPECT_FRAMES = ["attention", "distance", "receptive_field", "memory", "states", "cycles", "content"]
INSPECT_FRAMES += ["modes", "explained", "groups", "touched"]
INSPECT_FILES = ["inspect.json", *(f"{name}.parquet" for name in INSPECT_FRAMES)]
RUN = str(LAYOUT.run_dir("{run}", "{seed}"))
LOGS = f"{PARAMS.outputs.results}/logs"
TIMES = f"{PARAMS.outputs.results}/benchmarks"
TRACK = f"--track {PARAMS.tracking.store}" if PARAMS.tracking.kind == "mlflow" else ""
USES_GPU = wanted(PARAMS.device)
ENV = "../envs/lgmamba.yaml"


wildcard_constraints:
    run="|".join(RUNS),
    seed="|".join(str(s) for s in PARAMS.seeds),


rule data:
    input:
        config=str(LAYOUT.data),
        code=str(LAYOUT.code("data")),
        images=local_images(),
    output:
        DATA_FILES,
    log:
        f"{LOGS}/data.log",
    benchmark:
        f"{TIMES}/data.tsv"
    conda:
        ENV
    threads: 4
    params:
        out=folder_of_output,
    message:
        "Decode the images into {params.out}"
    shell:
        "python -m lgmamba data --config {input.config} --out {params.out} > {log} 2>&1"


rule train:
    input:
        run=str(LAYOUT.run_json("{run}", "{seed}")),
        code=str(LAYOUT.code("train")),
        data=DATA_FILES,
    output:
        [f"{RUN}/train/{name}" for name in TRAIN_FILES],
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
        data=lambda w, input: dirname(input.data),
        out=folder_of_output,
        work=f"{RUN}/work",  # resume checkpoints: no output, because a failed job loses its outputs
        track=TRACK,
        device=PARAMS.device,
    message:
        "Train {wildcards.run}, seed {wildcards.seed} (progress: {log})"
    shell:
        "python -m lgmamba train --run {input.run} --data {params.data} --out {params.out} --work {params.work}"
        " {params.track} --device {params.device} > {log} 2>&1"


rule reconstruct:
    input:
        probe=str(LAYOUT.probe_json("{run}", "{seed}")),
        code=str(LAYOUT.code("reconstruct")),
        data=DATA_FILES,
        train=rules.train.output,
    output:
        [f"{RUN}/probe/{name}" for name in PROBE_FILES],
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
        data=lambda w, input: dirname(input.data),
        train=lambda w, input: dirname(input.train[0]),
        out=folder_of_output,
        device=PARAMS.device,
    message:
        "Reconstruct held-out images at every step with {wildcards.run}, seed {wildcards.seed}"
    shell:
        "python -m lgmamba reconstruct --probe {input.probe} --train {params.train} --data {params.data}"
        " --out {params.out} --device {params.device} > {log} 2>&1"


rule remedy:
    input:
        config=str(LAYOUT.remedy_json("{run}", "{seed}")),
        code=str(LAYOUT.code("remedy")),
        data=DATA_FILES,
        train=rules.train.output,
    output:
        [f"{RUN}/remedies/{name}" for name in REMEDY_FILES],
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
        data=lambda w, input: dirname(input.data),
        train=lambda w, input: dirname(input.train[0]),
        out=folder_of_output,
        work=f"{RUN}/work",  # calibrated values: no output, because a failed job loses its outputs
        track=TRACK,
        device=PARAMS.device,
    message:
        "Try remedies on {wildcards.run}, seed {wildcards.seed} (progress: {log})"
    shell:
        "python -m lgmamba remedy --config {input.config} --train {params.train} --data {params.data}"
        " --out {params.out} --work {params.work} {params.track} --device {params.device} > {log} 2>&1"


rule inspect:
    input:
        config=str(LAYOUT.inspect_json("{run}", "{seed}")),
        code=str(LAYOUT.code("inspect")),
        data=DATA_FILES,
        train=rules.train.output,
    output:
        [f"{RUN}/inspect/{name}" for name in INSPECT_FILES],
    log:
        f"{LOGS}/inspect/{{run}}/seed{{seed}}.log",
    benchmark:
        f"{TIMES}/inspect/{{run}}/seed{{seed}}.tsv"
    conda:
        ENV
    threads: train_threads
    resources:
        gpu=USES_GPU,
    params:
        data=lambda w, input: dirname(input.data),
        train=lambda w, input: dirname(input.train[0]),
        out=folder_of_output,
        device=PARAMS.device,
    message:
        "Look into {wildcards.run}, seed {wildcards.seed} (progress: {log})"
    shell:
        "python -m lgmamba inspect --config {input.config} --train {params.train} --data {params.data}"
        " --out {params.out} --device {params.device} > {log} 2>&1"


rule evaluate:
    input:
        study=str(LAYOUT.study),
        code=str(LAYOUT.code("evaluate")),
        train=every_run("train", TRAIN_FILES),
        probe=every_run("probe", PROBE_FILES),
        remedies=extended_runs("remedies", REMEDY_FILES),
        inspected=inspected_runs("inspect", INSPECT_FILES),
    output:
        [f"{LAYOUT.frames}/{name}" for name in frames_of(PARAMS)],
    log:
        f"{LOGS}/evaluate.log",
    benchmark:
        f"{TIMES}/evaluate.tsv"
    conda:
        ENV
    threads: 4
    params:
        results=lambda w: PARAMS.outputs.results,
        out=folder_of_output,
    message:
        "Gather every run into frames and test the claims"
    shell:
        "python -m lgmamba evaluate --study {input.study} --results {params.results} --out {params.out} > {log} 2>&1"
