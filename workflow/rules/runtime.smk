# Seconds an edit, measured for each method by itself. Controls are left out: those that are told no edit compute
# nothing, and a shuffled exemplar takes as long as an own one.

TIMED = [
    name
    for name, entry in METHODS.items()
    if CARDS[name].conditioning != "none" and entry.exemplars == "own"
]


rule time_edits:
    input:
        weights=lambda wildcards: method_weights(wildcards.method).values(),
        bench=f"{RUN}/bench",
    output:
        directory(f"{RUN}/runtime/{{method}}"),
    log:
        f"{RUN}/logs/runtime/{{method}}.log",
    conda:
        ENVIRONMENT
    threads: ALL_CORES  # so that no other job runs beside it
    resources:
        **asked_for(*STAGES),
    params:
        method=lambda wildcards: editing_part(wildcards.method),
        weights=lambda wildcards: as_arguments(method_weights(wildcards.method)),
        base_seed=CONFIG.run.seed,
        # Methods of single edits are timed on these alone, and so on the same samples; one of several parts on such.
        families=lambda wildcards: as_json(families_of(CONFIG, wildcards.method)[:1]),
        samples=CONFIG.runtime.samples,
        warm_up=CONFIG.runtime.warm_up,
        repeats=CONFIG.runtime.repeats,
        code=lambda wildcards: code_digest(
            "editclip.editing.runtime",
            editor_module(METHODS[wildcards.method].editor),
        ),
    message:
        "Timing {wildcards.method}"
    shell:
        "python -m editclip.editing.runtime --method {params.method:q} --bench {input.bench}"
        " --families {params.families:q}"
        " --weights {params.weights} --base-seed {params.base_seed} --samples {params.samples}"
        " --warm-up {params.warm_up} --repeats {params.repeats} --threads {threads} --out {output} 2> >(tee {log} >&2)"
