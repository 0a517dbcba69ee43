# One job scores one metric family for one method over all its seeds; features are encoded once, in the cache.

from editclip.metrics.families import FAMILIES

try:
    check_weights(
        config,
        {f"method {name}": card.weights for name, card in CARDS.items()}
        | {f"scoring {name}": family.weights for name, family in FAMILIES.items()}
        | {
            f"training {name}": needs
            for name, (_, needs) in TRAININGS.items()
            if config["weights"][name]["source"] == "train"
        },
    )
except InputError as error:
    sys.exit(f"error: {error}")


rule score:
    input:
        bench=f"{RUN}/bench",
        edits=lambda wildcards: [
            f"{RUN}/edits/{wildcards.method}/seed={seed}"
            for seed in seeds_of(wildcards.method)
        ],
        weights=lambda wildcards: [
            weights_folder(name) for name in FAMILIES[wildcards.family].weights
        ],
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
        config=lambda wildcards: as_json(config["metrics"][wildcards.family]),
        batch_size=config["metrics"]["batch_size"],
        edits=lambda wildcards, input: os.path.dirname(input.edits[0]),
        seeds=lambda wildcards: seeds_of(wildcards.method),
        weights=lambda wildcards, input: weights_arguments(input.weights),
        code=lambda wildcards: code_digest(FAMILIES[wildcards.family].module),
    message:
        "Scoring {wildcards.method}: {wildcards.family}"
    shell:
        "python -m {params.module} --config {params.config:q} --bench {input.bench}"
        " --edits {params.edits} --method {wildcards.method} --seeds {params.seeds}"
        " --weights {params.weights} --batch-size {params.batch_size}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"
