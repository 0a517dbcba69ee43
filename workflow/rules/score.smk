# One job scores one metric family for one method over all its seeds; features are encoded once, in the cache. Another
# measures what the encoders themselves can tell apart.

from editclip.metrics.families import FAMILIES

ENCODERS = metric_encoders(CONFIG)


def family_weights(family):
    """The weights folders that a metric family reads, by role."""
    return {role: weights_folder(ENCODERS[family]) for role in FAMILIES[family].weights}


rule score:
    input:
        bench=f"{RUN}/bench",
        edits=lambda wildcards: [
            f"{RUN}/edits/{wildcards.method}/seed={seed}"
            for seed in seeds_of(wildcards.method)
        ],
        weights=lambda wildcards: family_weights(wildcards.family).values(),
    output:
        directory(f"{RUN}/scores/{{method}}/{{family}}"),
    log:
        f"{RUN}/logs/score/{{method}}-{{family}}.log",
    wildcard_constraints:
        method="|".join(METHODS),
        family="|".join(FAMILIES),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
    params:
        module=lambda wildcards: FAMILIES[wildcards.family].module,
        config=lambda wildcards: as_json(getattr(CONFIG.metrics, wildcards.family)),
        batch_size=CONFIG.metrics.batch_size,
        edits=lambda wildcards, input: os.path.dirname(input.edits[0]),
        seeds=lambda wildcards: seeds_of(wildcards.method),
        weights=lambda wildcards: as_arguments(family_weights(wildcards.family)),
        code=lambda wildcards: code_digest(FAMILIES[wildcards.family].module),
    message:
        "Scoring {wildcards.method}: {wildcards.family}"
    shell:
        "python -m {params.module} --config {params.config:q} --bench {input.bench}"
        " --edits {params.edits} --method {wildcards.method} --seeds {params.seeds}"
        " --weights {params.weights} --batch-size {params.batch_size}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


if CONFIG.representation:

    rule representation:
        input:
            triplets=TRIPLETS_INPUT,
            encoder=weights_folder(CONFIG.representation.encoder),
            clips=[weights_folder(name) for name in CONFIG.representation.clips],
        output:
            directory(f"{RUN}/representation"),
        log:
            f"{RUN}/logs/representation.log",
        conda:
            ENVIRONMENT
        resources:
            gpu=GPU,
        params:
            triplets=lambda wildcards: TRIPLETS,
            encoders=as_arguments(
                {
                    name: weights_folder(name)
                    for name in (
                        CONFIG.representation.encoder,
                        *CONFIG.representation.clips,
                    )
                }
            ),
            statistics=as_json(CONFIG.statistics),
            code=code_digest("editclip.metrics.representation"),
        message:
            "Measuring how well representations tell edits apart"
        shell:
            "python -m editclip.metrics.representation --triplets {params.triplets:q}"
            " --encoders {params.encoders} --statistics {params.statistics:q}"
            " --threads {threads} --out {output} 2> >(tee {log} >&2)"
