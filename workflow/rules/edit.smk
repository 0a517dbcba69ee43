# Each method edits the whole bench: what depends on the exemplar alone is prepared once, then one job per seed and
# shard, then the shards are gathered.


def weights_of(method):
    """The weights folders a method's card asks for, by name."""
    return {name: weights_folder(name) for name in CARDS[method].weights}


def weights_arguments(method):
    """The same, as NAME=FOLDER arguments."""
    return [f"{name}={folder}" for name, folder in weights_of(method).items()]


def shards_of(method):
    """Names of a method's shards: 0-of-2, 1-of-2."""
    count = METHODS[method]["shards"]
    return [f"{index}-of-{count}" for index in range(count)]


def edit_code(method):
    """Digest of the runner's code and the method's own."""
    return code_digest("editclip.editing.edits", METHODS[method]["editor"])


wildcard_constraints:
    method="|".join(METHODS),
    seed=r"\d+",
    shard=r"\d+-of-\d+",


rule prepare:
    message:
        "Preparing the exemplars for {wildcards.method}, shard {wildcards.shard}"
    input:
        unpack(lambda wildcards: weights_of(wildcards.method)),
        bench=f"{RUN}/bench",
    output:
        directory(f"{RUN}/prepared/{{method}}/{{shard}}"),
    params:
        method=lambda wildcards: as_json(METHODS[wildcards.method]),
        weights=lambda wildcards: weights_arguments(wildcards.method),
        base_seed=config["run"]["seed"],
        code=lambda wildcards: edit_code(wildcards.method),
    resources:
        gpu=1,
    log:
        f"{RUN}/logs/prepare/{{method}}-{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/prepare/{{method}}-{{shard}}.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m editclip.editing.edits prepare --method {params.method:q} --bench {input.bench}"
        " --weights {params.weights} --base-seed {params.base_seed} --shard {wildcards.shard}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule edit:
    message:
        "Editing with {wildcards.method}, seed {wildcards.seed}, shard {wildcards.shard}"
    input:
        unpack(lambda wildcards: weights_of(wildcards.method)),
        bench=f"{RUN}/bench",
        prepared=lambda wildcards: [
            f"{RUN}/prepared/{wildcards.method}/{shard}"
            for shard in shards_of(wildcards.method)
        ],
    output:
        directory(f"{RUN}/shards/{{method}}/seed={{seed}}/{{shard}}"),
    params:
        method=lambda wildcards: as_json(METHODS[wildcards.method]),
        weights=lambda wildcards: weights_arguments(wildcards.method),
        base_seed=config["run"]["seed"],
        code=lambda wildcards: edit_code(wildcards.method),
    resources:
        gpu=1,
    log:
        f"{RUN}/logs/edit/{{method}}-seed={{seed}}-{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/edit/{{method}}-seed={{seed}}-{{shard}}.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m editclip.editing.edits edit --method {params.method:q} --bench {input.bench}"
        " --weights {params.weights} --prepared {input.prepared} --base-seed {params.base_seed}"
        " --seed {wildcards.seed} --shard {wildcards.shard}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule gather:
    message:
        "Gathering the shards of {wildcards.method}, seed {wildcards.seed}"
    input:
        bench=f"{RUN}/bench",
        shards=lambda wildcards: [
            f"{RUN}/shards/{wildcards.method}/seed={wildcards.seed}/{shard}"
            for shard in shards_of(wildcards.method)
        ],
    output:
        directory(f"{RUN}/edits/{{method}}/seed={{seed}}"),
    params:
        code=code_digest("editclip.editing.edits"),
    localrule: True
    log:
        f"{RUN}/logs/gather/{{method}}-seed={{seed}}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m editclip.editing.edits gather --bench {input.bench} --shards {input.shards}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"
