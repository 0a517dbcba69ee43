# The weights: trained here by a recipe, or checked and linked from a path or a model hub. One rule of either sort for
# each entry of the config; what its kind needs stands in the kind's recipe module.


for _name, _entry in CONFIG.weights.items():
    _kind = read_kind(_entry.kind)
    if _entry.source == "train":
        _starts = {r: weights_folder(n) for r, n in _entry.starts_from.items()}
        # With GPUs a process for each of them, which the job claims with as many cores, else as many as the entry says.
        _processes = 1 if GPU else _entry.resources.processes

        rule:
            name:
                f"train_{_name}"
            input:
                *_starts.values(),
                triplets=TRIPLETS_INPUT,
                trunks=trunks_for(_entry.recipe.get("lpips_trunk")),
            output:
                directory(weights_folder(_name)),
            log:
                f"{RUN}/logs/train_{_name}.log",
            benchmark:
                f"{RUN}/benchmarks/train_{_name}.tsv"
            priority: trainings_from(_name)  # the longest chain decides how long a run takes
            conda:
                ENVIRONMENT
            threads: max(_processes, asked(_entry.resources)["gpu"])  # --set-threads raises it; at micro's size in vain
            resources:
                **asked(_entry.resources),
                processes=_processes,  # no parameter: another number changes the rounding alone, as threads do
            params:
                kind=_kind.name,
                recipe=as_json(_entry.recipe),
                seed=CONFIG.run.seed if _entry.seed is None else _entry.seed,
                starts=as_arguments(_starts),
                triplets=lambda wildcards: TRIPLETS,
                code=code_digest(_kind.training),
            message:
                f"Training {_name}"
            shell:
                "python -m editclip.training --kind {params.kind} --recipe {params.recipe:q} --seed {params.seed}"
                " --triplets {params.triplets:q} --from {params.starts}"
                " --gpus {resources.gpu} --processes {resources.processes} --threads {threads}"
                " --out {output} 2> >(tee {log} >&2)"

    else:

        rule:
            name:
                f"fetch_{_name}"
            input:
                watched(getattr(_entry, "path", None)),
            output:
                directory(weights_folder(_name)),
            log:
                f"{RUN}/logs/fetch_{_name}.log",
            conda:
                ENVIRONMENT
            resources:
                **(asked() | {"gpu": 0}),
            params:
                name=_name,
                config=as_json(_entry.model_dump(exclude={"starts_from"})),
                code=code_digest("editclip.weights", _kind.layout.partition(":")[0]),
            message:
                f"Fetching and checking {_name}"
            shell:
                "python -m editclip.weights {params.name} --config {params.config:q}"
                " --out {output} 2> >(tee {log} >&2)"
