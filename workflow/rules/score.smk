# The trunks of LPIPS come first, on the machine that calls: a cluster's nodes may reach no package index.


rule lpips_trunks:
    output:
        f"{RUN}/lpips_trunks.json",
    log:
        f"{RUN}/logs/lpips_trunks.log",
    priority: 1000  # the one step that can find no network is not to wait for the trainings
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=code_digest("editclip.metrics.fetch_trunks"),
    message:
        "Fetching the ImageNet trunks of LPIPS into the cache"
    shell:
        "python -m editclip.metrics.fetch_trunks --out {output} 2> >(tee {log} >&2)"


# One job scores all edits of one method by all metric families; features, and the scores of a family that nothing has
# changed for, come from the cache. Another measures what the encoders themselves can tell apart.


rule score:
    input:
        bench=f"{RUN}/bench",
        edits=f"{RUN}/edits/{{method}}",
        weights=METRIC_WEIGHTS.values(),
        trunks=trunks_for(CONFIG.metrics.lpips.trunk),
    output:
        [directory(f"{RUN}/scores/{{method}}/{family}") for family in FAMILIES],
    log:
        f"{RUN}/logs/score/{{method}}.log",
    wildcard_constraints:
        method="|".join(METHODS),
    conda:
        ENVIRONMENT
    resources:
        **asked(),
    params:
        metrics=as_json(CONFIG.metrics),
        seeds=lambda wildcards: seeds_of(wildcards.method),
        weights=as_arguments(METRIC_WEIGHTS),
        out=lambda wildcards, output: os.path.dirname(output[0]),
        code=code_digest(
            "editclip.metrics.scoring",
            *(family.module for family in FAMILIES.values()),
        ),
    message:
        "Scoring {wildcards.method}"
    shell:
        "python -m editclip.metrics.scoring --metrics {params.metrics:q} --bench {input.bench}"
        " --edits {input.edits} --method {wildcards.method} --seeds {params.seeds}"
        " --weights {params.weights} --threads {threads}"
        " --out {params.out} 2> >(tee {log} >&2)"


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
            **asked(),
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
