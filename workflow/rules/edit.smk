# Each method edits the bench, or as much of it as its tables and studies are about, in the stages that its card names:
# what depends on the exemplar alone is prepared, and what a planning model makes of each sample is planned, once for all
# repetitions; then one job per shard makes all repetitions (importing and loading a model takes longer than many a
# bench's images), then the shards are gathered.


wildcard_constraints:
    method="|".join(METHODS),
    shard=r"\d+-of-\d+",


rule prepare:
    input:
        weights=lambda wildcards: method_weights(wildcards.method).values(),
        bench=f"{RUN}/bench",
    output:
        directory(f"{RUN}/prepared/{{method}}/{{shard}}"),
    log:
        f"{RUN}/logs/prepare/{{method}}-{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/prepare/{{method}}-{{shard}}.tsv"
    wildcard_constraints:
        method=only(with_stage("prepare")),
    conda:
        ENVIRONMENT
    resources:
        **asked_for("prepare"),
    params:
        method=lambda wildcards: editing_part(wildcards.method),
        weights=lambda wildcards: as_arguments(method_weights(wildcards.method)),
        base_seed=CONFIG.run.seed,
        families=lambda wildcards: families_of_bench(wildcards.method),
        code=lambda wildcards: edit_code(wildcards.method),
    message:
        "Preparing the exemplars for {wildcards.method}, shard {wildcards.shard}"
    shell:
        "python -m editclip.editing.edits prepare --method {params.method:q} --bench {input.bench}"
        " --families {params.families:q}"
        " --weights {params.weights} --base-seed {params.base_seed} --shard {wildcards.shard}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule plan:
    input:
        weights=lambda wildcards: method_weights(wildcards.method).values(),
        bench=f"{RUN}/bench",
        prepared=prepared_for,
    output:
        directory(f"{RUN}/planned/{{method}}/{{shard}}"),
    log:
        f"{RUN}/logs/plan/{{method}}-{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/plan/{{method}}-{{shard}}.tsv"
    wildcard_constraints:
        method=only(with_stage("plan")),
    conda:
        ENVIRONMENT
    resources:
        **asked_for("plan"),
    params:
        method=lambda wildcards: editing_part(wildcards.method),
        weights=lambda wildcards: as_arguments(method_weights(wildcards.method)),
        base_seed=CONFIG.run.seed,
        families=lambda wildcards: families_of_bench(wildcards.method),
        code=lambda wildcards: edit_code(wildcards.method),
    message:
        "Planning with {wildcards.method}, shard {wildcards.shard}"
    shell:
        "python -m editclip.editing.edits plan --method {params.method:q} --bench {input.bench}"
        " --families {params.families:q}"
        " --weights {params.weights} --prepared {input.prepared} --base-seed {params.base_seed}"
        " --shard {wildcards.shard} --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule edit:
    input:
        weights=lambda wildcards: method_weights(wildcards.method).values(),
        bench=f"{RUN}/bench",
        prepared=prepared_for,
        planned=planned_for,
    output:
        directory(f"{RUN}/shards/{{method}}/{{shard}}"),
    log:
        f"{RUN}/logs/edit/{{method}}-{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/edit/{{method}}-{{shard}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **asked_for("edit"),
    params:
        method=lambda wildcards: editing_part(wildcards.method),
        weights=lambda wildcards: as_arguments(method_weights(wildcards.method)),
        base_seed=CONFIG.run.seed,
        families=lambda wildcards: families_of_bench(wildcards.method),
        seeds=lambda wildcards: seeds_of(wildcards.method),
        code=lambda wildcards: edit_code(wildcards.method),
    message:
        "Editing with {wildcards.method}, shard {wildcards.shard}"
    shell:
        "python -m editclip.editing.edits edit --method {params.method:q} --bench {input.bench}"
        " --families {params.families:q}"
        " --weights {params.weights} --prepared {input.prepared} --planned {input.planned}"
        " --base-seed {params.base_seed} --seeds {params.seeds} --shard {wildcards.shard}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule gather:
    input:
        bench=f"{RUN}/bench",
        shards=lambda wildcards: [
            f"{RUN}/shards/{wildcards.method}/{shard}"
            for shard in shards_of(wildcards.method)
        ],
    output:
        directory(f"{RUN}/edits/{{method}}"),
    log:
        f"{RUN}/logs/gather/{{method}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        families=lambda wildcards: families_of_bench(wildcards.method),
        code=code_digest("editclip.editing.edits"),
    message:
        "Gathering the shards of {wildcards.method}"
    shell:
        "python -m editclip.editing.edits gather --bench {input.bench} --families {params.families:q}"
        " --shards {input.shards}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"
