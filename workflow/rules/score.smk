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


# One job scores all edits of one method by all metric families, or those of one shard of a method that has several,
# which are then gathered; features, and the scores of a family that nothing has changed for, come from the cache.
# Other jobs measure what the encoders themselves can tell apart, and what they attend to; what is nearest to what comes out
# of the features of the first.


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
        method=only(name for name in METHODS if name not in SHARDED),
    conda:
        ENVIRONMENT
    resources:
        **asked(),
    params:
        metrics=as_json(CONFIG.metrics),
        families=lambda wildcards: families_of_bench(wildcards.method),
        seeds=lambda wildcards: seeds_of(wildcards.method),
        weights=as_arguments(METRIC_WEIGHTS),
        shard="0-of-1",
        out=lambda wildcards, output: os.path.dirname(output[0]),
        code=code_digest(
            "editclip.metrics.scoring",
            *(family.module for family in FAMILIES.values()),
        ),
    message:
        "Scoring {wildcards.method}"
    shell:
        "python -m editclip.metrics.scoring --metrics {params.metrics:q} --bench {input.bench}"
        " --families {params.families:q}"
        " --edits {input.edits} --method {wildcards.method} --seeds {params.seeds}"
        " --weights {params.weights} --shard {params.shard} --threads {threads}"
        " --out {params.out} 2> >(tee {log} >&2)"


use rule score as score_shard with:
    output:
        directory(f"{RUN}/score_shards/{{method}}/{{shard}}"),
    log:
        f"{RUN}/logs/score/{{method}}-{{shard}}.log",
    wildcard_constraints:
        method=only(SHARDED),
    params:
        shard="{shard}",
        out=lambda wildcards, output: output[0],
    message:
        "Scoring {wildcards.method}, shard {wildcards.shard}"


rule gather_scores:
    input:
        bench=f"{RUN}/bench",
        shards=lambda wildcards: [
            f"{RUN}/score_shards/{wildcards.method}/{shard}"
            for shard in shards_of(wildcards.method)
        ],
    output:
        [directory(f"{RUN}/scores/{{method}}/{family}") for family in FAMILIES],
    log:
        f"{RUN}/logs/gather_scores/{{method}}.log",
    wildcard_constraints:
        method=only(SHARDED),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        families=lambda wildcards: families_of_bench(wildcards.method),
        out=lambda wildcards, output: os.path.dirname(output[0]),
        code=code_digest("editclip.metrics.gather"),
    message:
        "Gathering the scores of {wildcards.method}"
    shell:
        "python -m editclip.metrics.gather --bench {input.bench} --families {params.families:q}"
        " --shards {input.shards}"
        " --threads {threads} --out {params.out} 2> >(tee {log} >&2)"


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


rule attention:
    input:
        bench=f"{RUN}/bench",
        encoder=lambda wildcards: weights_folder(wildcards.encoder),
        clip=lambda wildcards: weights_folder(CONFIG.attention[wildcards.encoder].clip),
    output:
        directory(f"{RUN}/attention/{{encoder}}"),
    log:
        f"{RUN}/logs/attention/{{encoder}}.log",
    wildcard_constraints:
        encoder=only(CONFIG.attention or ()),
    conda:
        ENVIRONMENT
    resources:
        **asked(),
    params:
        clip=lambda wildcards: CONFIG.attention[wildcards.encoder].clip,
        statistics=as_json(CONFIG.statistics),
        code=code_digest("editclip.metrics.attention"),
    message:
        "Measuring what {wildcards.encoder} attends to"
    shell:
        "python -m editclip.metrics.attention --bench {input.bench}"
        " --encoder {wildcards.encoder}={input.encoder} --clip {params.clip}={input.clip}"
        " --statistics {params.statistics:q} --threads {threads} --out {output} 2> >(tee {log} >&2)"


if CONFIG.retrieval:

    rule retrieval:
        input:
            triplets=TRIPLETS_INPUT,
            representation=f"{RUN}/representation",
        output:
            directory(f"{RUN}/retrieval"),
        log:
            f"{RUN}/logs/retrieval.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            triplets=lambda wildcards: TRIPLETS,
            config=as_json(CONFIG.retrieval),
            statistics=as_json(CONFIG.statistics),
            code=code_digest("editclip.metrics.retrieval"),
        message:
            "Looking up the nearest edits and instructions"
        shell:
            "python -m editclip.metrics.retrieval --triplets {params.triplets:q}"
            " --representation {input.representation} --config {params.config:q}"
            " --statistics {params.statistics:q} --threads {threads} --out {output} 2> >(tee {log} >&2)"
