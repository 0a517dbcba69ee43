# The weights: trained here by a recipe, or checked and linked from a path or a model hub.

# name: (training stage, the weights it starts from)
TRAININGS = {
    "clip": ("editclip.training.clip", []),
    "clip_matched": ("editclip.training.clip", []),
    "vae": ("editclip.training.vae", []),
    "text_to_image": ("editclip.training.text_to_image", ["clip", "vae"]),
    "ip2p": ("editclip.training.ip2p", ["text_to_image"]),
    "editclip": ("editclip.training.contrastive", ["clip"]),
    "editclip_ip2p": ("editclip.training.exemplar_diffusion", ["ip2p", "editclip"]),
    "prompt_diffusion": ("baselines.prompt_diffusion.training", ["text_to_image"]),
    "prompt_diffusion_edits": (
        "baselines.prompt_diffusion.training",
        ["text_to_image"],
    ),
}
# The chain that decides how long a run takes goes first, and what nothing is trained from fills the other cores.
FIRST = ("clip", "vae", "text_to_image", "ip2p", "editclip", "editclip_ip2p")


for _name, (_module, _starts_from) in TRAININGS.items():
    if config["weights"][_name]["source"] == "train":

        rule:
            name:
                f"train_{_name}"
            input:
                **{start: weights_folder(start) for start in _starts_from},
                triplets=TRIPLETS_INPUT,
            output:
                directory(weights_folder(_name)),
            log:
                f"{RUN}/logs/train_{_name}.log",
            benchmark:
                f"{RUN}/benchmarks/train_{_name}.tsv"
            priority: int(_name in FIRST)
            conda:
                ENVIRONMENT
            threads: 1  # a second gains nothing on the micro run's small tensors; --set-threads raises it
            resources:
                gpu=GPU,
            params:
                module=_module,
                recipe=as_json(config["weights"][_name]["recipe"]),
                seed=config["run"]["seed"],
                start=lambda wildcards, input: " ".join(
                    f"--{name.replace('_', '-')} {folder}"
                    for name, folder in input.items()
                    if name != "triplets"
                ),
                triplets=lambda wildcards: TRIPLETS,
                code=code_digest(_module),
            message:
                f"Training {_name}"
            shell:
                "python -m {params.module} --recipe {params.recipe:q} --seed {params.seed}"
                " --triplets {params.triplets:q} {params.start}"
                " --threads {threads} --out {output} 2> >(tee {log} >&2)"

    else:

        rule:
            name:
                f"fetch_{_name}"
            input:
                watched(config["weights"][_name].get("path")),
            output:
                directory(weights_folder(_name)),
            log:
                f"{RUN}/logs/fetch_{_name}.log",
            conda:
                ENVIRONMENT
            params:
                name=_name,
                config=as_json(config["weights"][_name]),
                code=code_digest("editclip.weights"),
            message:
                f"Fetching and checking {_name}"
            shell:
                "python -m editclip.weights {params.name} --config {params.config:q}"
                " --out {output} 2> >(tee {log} >&2)"
