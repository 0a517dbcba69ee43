# Training triplets and the benchmark: procedural, or the user's own, through the same loaders.

from editclip.config.bench import BenchSettings, WorldTree
from editclip.config.triplets import WorldSizes


rule world_triplets:
    output:
        directory(f"{RUN}/triplets"),
    log:
        f"{RUN}/logs/world_triplets.log",
    conda:
        ENVIRONMENT
    threads: 2  # processes that draw; every training waits for them
    params:
        config=as_json(CONFIG.triplets.model_dump(include=set(WorldSizes.model_fields))),
        seed=CONFIG.run.seed,
        code=code_digest("editclip.data.world"),
    message:
        "Drawing the procedural training triplets"
    shell:
        "python -m editclip.data.world triplets --config {params.config:q} --seed {params.seed}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"


# The folders that later rules read, and what they watch there.
OWN_TRIPLETS = getattr(CONFIG.triplets, "path", None)
OWN_TREE = getattr(CONFIG.bench, "path", None)
READS_TRIPLETS = (
    CONFIG.bench.source == "world"
    or CONFIG.representation
    or any(CONFIG.weights[name].source == "train" for name in NEEDED_WEIGHTS)
)
for _key, _folder, _read in (
    ("triplets", OWN_TRIPLETS, READS_TRIPLETS),
    ("bench", OWN_TREE, True),
):
    if _folder and _read and not os.path.isdir(_folder):
        sys.exit(f"error: config value {_key}.path: {_folder} is not a folder")
TRIPLETS = OWN_TRIPLETS or f"{RUN}/triplets"
TREE = OWN_TREE or f"{RUN}/tree"
TRIPLETS_INPUT = watched(OWN_TRIPLETS) if OWN_TRIPLETS else TRIPLETS


rule world_tree:
    input:
        triplets=TRIPLETS_INPUT,
    output:
        directory(f"{RUN}/tree"),
    log:
        f"{RUN}/logs/world_tree.log",
    conda:
        ENVIRONMENT
    params:
        triplets=lambda wildcards: TRIPLETS,
        config=as_json(CONFIG.bench.model_dump(include=set(WorldTree.model_fields))),
        seed=CONFIG.run.seed,
        code=code_digest("editclip.data.world"),
    message:
        "Drawing the procedural benchmark as a TOP-Bench tree"
    shell:
        "python -m editclip.data.world bench --config {params.config:q} --seed {params.seed}"
        " --triplets {params.triplets:q} --threads {threads} --out {output} 2> >(tee {log} >&2)"


rule bench:
    input:
        tree=watched(OWN_TREE) if OWN_TREE else TREE,
    output:
        directory(f"{RUN}/bench"),
    log:
        f"{RUN}/logs/bench.log",
    conda:
        ENVIRONMENT
    params:
        tree=lambda wildcards: TREE,
        config=as_json(CONFIG.bench.model_dump(include=set(BenchSettings.model_fields))),
        code=code_digest("editclip.data.bench"),
    message:
        "Building the benchmark's manifest and canonical frames"
    shell:
        "python -m editclip.data.bench --root {params.tree:q} --config {params.config:q}"
        " --threads {threads} --out {output} 2> >(tee {log} >&2)"
