# Seconds an edit, measured for each method by itself. Controls are left out: those that are told no edit compute
# nothing, and a shuffled exemplar takes as long as an own one.

TIMED = [
    name
    for name, entry in METHODS.items()
    if CARDS[name].conditioning != "none" and entry["exemplars"] == "own"
]


rule runtime:
    input:
        weights=weights_of,
        bench=f"{RUN}/bench",
    output:
        directory(f"{RUN}/runtime/{{method}}"),
    log:
        f"{RUN}/logs/runtime/{{method}}.log",
    conda:
        ENVIRONMENT
    threads: ALL_CORES  # so that no other job runs beside it
    resources:
        gpu=GPU,
    params:
        method=lambda wildcards: as_json(METHODS[wildcards.method]),
        weights=lambda wildcards, input: weights_arguments(input.weights),
        base_seed=config["run"]["seed"],
        samples=config["runtime"]["samples"],
        warm_up=config["runtime"]["warm_up"],
        code=lambda wildcards: code_digest(
            "editclip.editing.runtime",
            editor_module(METHODS[wildcards.method]["editor"]),
        ),
    message:
        "Timing {wildcards.method}"
    shell:
        "python -m editclip.editing.runtime --method {params.method:q} --bench {input.bench}"
        " --weights {params.weights} --base-seed {params.base_seed} --samples {params.samples}"
        " --warm-up {params.warm_up} --threads {threads} --out {output} 2> >(tee {log} >&2)"
