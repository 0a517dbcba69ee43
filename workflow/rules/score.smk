# One job scores one metric family for one method over all its seeds; features are encoded once, in the cache. Another
# measures what the encoders themselves can tell apart.

from editclip.metrics.families import FAMILIES

CLIPS = (config["representation"] or {}).get("clips", [])  # compared with EditCLIP

try:
    check_weights(
        config,
        {f"method {name}": card.weights for name, card in CARDS.items()}
        | {f"scoring {name}": family.weights for name, family in FAMILIES.items()}
        | {"representation": CLIPS}
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


rule representation:
    input:
        triplets=TRIPLETS_INPUT,
        editclip=weights_folder("editclip"),
        clips=[weights_folder(name) for name in CLIPS],
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
        clips=lambda wildcards, input: weights_arguments(input.clips),
        statistics=as_json(config["statistics"]),
        code=code_digest("editclip.metrics.representation"),
    message:
        "Measuring how well representations tell edits apart"
    shell:
        "python -m editclip.metrics.representation --triplets {params.triplets:q} --editclip {input.editclip}"
        " --clips {params.clips} --statistics {params.statistics:q}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"
