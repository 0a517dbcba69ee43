# What the rules share: the checked config, the methods' cards, and each stage's code digest.

import fcntl

from editclip.config.bindings import (
    check_sources,
    families_of,
    methods_of,
    metric_encoders,
    needed_weights,
    weights_of,
    with_starts,
)
from editclip.config.tree import read_config
from editclip.editing.cards import STAGES, NamedEditing, editor_module, read_card
from editclip.errors import InputError
from editclip.metrics.families import FAMILIES
from editclip.provenance import code_digest
from editclip.report.claim_rules import read_claims
from editclip.report.columns import better
from editclip.recipes.kinds import read_kind

# Jobs call `python`: without conda it must be the interpreter that runs Snakemake, activated or not.
os.environ.update(
    PATH=os.path.dirname(sys.executable) + os.pathsep + os.getenv("PATH", os.defpath)
)

try:
    # Our own reader: Snakemake's takes the last of two equal keys in silence and knows no `like`.
    CONFIG = read_config(
        *(workflow.overwrite_configfiles or ["config/micro.yaml"]),
        change=workflow.config_settings.config,
    )
    check_sources(CONFIG)
    METHODS = {name: CONFIG.methods[name] for name in methods_of(CONFIG)}
    CARDS = {name: read_card(method.editor) for name, method in METHODS.items()}
    NEEDED_WEIGHTS = needed_weights(CONFIG)
    for name, entry in CONFIG.studies.items():
        for metric in entry.metrics:
            better(metric, f"studies.{name}.metrics")
    if CONFIG.claims:
        read_claims(Path(CONFIG.claims.file))
except InputError as error:
    sys.exit(f"error: {error}")

RUN = f"results/{CONFIG.run.name}"
ENVIRONMENT = "../../environment.yml"

# Jobs that use a GPU claim it, here or on a cluster's nodes; on a machine without any they share the cores.
GPU = 1 if workflow.non_local_exec or shutil.which("nvidia-smi") else 0

# All cores of this machine; one where a cluster gives each job its own (a profile's set-threads then says how many).
ALL_CORES = workflow.resource_settings.cores or 1


def alive():
    """The open file that says, as long as this process lives, that it is at work here; see `ALIVE`.

    Snakemake's own locks outlive a kill, and the next call would be refused until an --unlock. The kernel's lock on a
    file does not: each call holds it shared, so one that can have it for itself finds nobody alive, and what locks there
    are were left behind.
    """
    Path(".snakemake/locks").mkdir(parents=True, exist_ok=True)
    file = open(".snakemake/alive", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in Path(".snakemake/locks").glob("*.lock"):
            left.unlink()
        fcntl.flock(file, fcntl.LOCK_SH)
    except BlockingIOError:
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:  # a file system without such locks: --unlock remains
        pass
    return file


# A job on another node, or of this machine, reads this file too: only the call itself holds the lock.
ALIVE = alive() if workflow.is_main_process else None


def as_json(part, sort_keys=True):
    """A part of the config as one command-line argument; Snakemake reruns a job when it changes."""

    def plain(value):
        return value.model_dump(mode="json", by_alias=True)

    return json.dumps(part, sort_keys=sort_keys, ensure_ascii=False, default=plain)


def watched(folder):
    """The files of a folder of the user's, if given: the folder's own date would not tell that one has changed."""
    found = os.walk(folder, followlinks=True) if folder else []
    return sorted(
        os.path.join(where, name) for where, _, names in found for name in names
    )


def asked(request=None):
    """What jobs with this request of the config, if any, ask for, as Snakemake calls it."""
    found = CONFIG.resources.asked(request)
    return {
        "mem_mb": round(1000 * found.memory_gb),
        "runtime": found.minutes,
        "gpu": GPU * found.gpus,
    }


def asked_for(*stages):
    """What jobs ask for that take a method through stages, of those that it has: the most of each resource."""

    def most(resource):
        def found(wildcards):
            own = METHODS[wildcards.method].resources
            stages_here = set(stages) & set(CARDS[wildcards.method].stages)
            return max(asked(own and own.of(stage))[resource] for stage in stages_here)

        return found

    return {resource: most(resource) for resource in asked()}


def only(names):
    """The wildcard constraint of a rule for these names alone; for none of them, what nothing matches."""
    return "|".join(names) or "(?!)"


def with_stage(stage):
    """The methods that have a stage."""
    return [name for name in METHODS if stage in CARDS[name].stages]


def trunks_for(trunk):
    """What a job with this trunk of LPIPS waits for."""
    return f"{RUN}/lpips_trunks.json" if trunk == "imagenet" else []


def seeds_of(method):
    """The repetitions of one method: its own `seeds`, or the run's."""
    own = METHODS[method].seeds
    return CONFIG.run.seeds if own is None else own


def weights_folder(name):
    """Folder of one set of weights of this run."""
    return f"{RUN}/weights/{name}"


# The weights folders that the metric families read, by role.
METRIC_WEIGHTS = {
    role: weights_folder(metric_encoders(CONFIG)[name])
    for name, family in FAMILIES.items()
    for role in family.weights
}


def as_arguments(folders):
    """Folders by role as ROLE=FOLDER arguments."""
    return [f"{role}={folder}" for role, folder in folders.items()]


def method_weights(method):
    """The weights folders behind the roles of a method's card."""
    names = weights_of(
        f"methods.{method}", CARDS[method], METHODS[method], CONFIG.weights
    )
    return {role: weights_folder(name) for role, name in names.items()}


def editing_part(method):
    """What the editing stages are told of a method: nothing that does not decide its images."""
    entry = METHODS[method].model_dump(include=set(NamedEditing.model_fields))
    return as_json({"name": method, **entry})


def families_of_bench(method):
    """The parts of the bench that a method edits, as the stages are told them."""
    return as_json(families_of(CONFIG, method))


def shards_of(method):
    """Names of a method's shards: 0-of-2, 1-of-2."""
    count = METHODS[method].shards
    return [f"{index}-of-{count}" for index in range(count)]


# The methods whose scores are made in shards too.
SHARDED = [name for name, entry in METHODS.items() if entry.shards > 1]


def edit_code(method):
    """Digest of the runner's code and the method's own."""
    return code_digest("editclip.editing.edits", editor_module(METHODS[method].editor))


def prepared_for(wildcards):
    """What was prepared of the exemplars, all shards of it; nothing for a method without that stage."""
    if "prepare" not in CARDS[wildcards.method].stages:
        return []
    folder = f"{RUN}/prepared/{wildcards.method}"
    return [f"{folder}/{shard}" for shard in shards_of(wildcards.method)]


def planned_for(wildcards):
    """What was planned for the samples of a shard; nothing for a method without that stage."""
    if "plan" not in CARDS[wildcards.method].stages:
        return []
    return f"{RUN}/planned/{wildcards.method}/{wildcards.shard}"


def trained_for(method):
    """Names of those weights behind a method's card that this run trains, and of those that these start from."""
    card, entry = CARDS[method], METHODS[method]
    used = weights_of(f"methods.{method}", card, entry, CONFIG.weights).values()
    return [
        name
        for name in with_starts(used, CONFIG.weights)
        if CONFIG.weights[name].source == "train"
    ]


def table_method(name):
    """What a table is told of a method: its entry with everything resolved, and what its card says for people."""
    entry, card = METHODS[name], CARDS[name]
    shuffled = " (shuffled exemplar)" if entry.exemplars == "shuffled" else ""
    return {
        "editor": entry.editor,
        "weights": weights_of(f"methods.{name}", card, entry, CONFIG.weights),
        "exemplars": entry.exemplars,
        "seeds": seeds_of(name),
        "options": entry.options,
        "label": card.label + shuffled,
        "paper": card.paper,
        "license": card.license,
        "conditioning": card.conditioning,
        "trained_on": card.trained_on,
        "trained": trained_for(name),
    }


def table_part(table):
    """All that the stages of one table are told (`editclip.config.tables.Table`)."""
    declaration = CONFIG.tables[table].model_dump(mode="json")
    if not CONFIG.representation:
        declaration["representation"] = None  # nothing was measured
    return as_json(
        {
            "name": table,
            "label": CONFIG.run.label,
            "notice": CONFIG.run.notice,
            "statistics": CONFIG.statistics,
            "declaration": declaration,
            "methods": {
                name: table_method(name) for name in CONFIG.tables[table].methods
            },
        }
    )


def edits_of(rows):
    """The folders of all edits of some methods."""
    return [f"{RUN}/edits/{name}" for name in rows]


def scores_of(rows):
    """The folders of all scores of some methods."""
    return [f"{RUN}/scores/{name}/{family}" for name in rows for family in FAMILIES]


def attention_of(encoders):
    """The folders of what edit encoders attend to."""
    return [f"{RUN}/attention/{encoder}" for encoder in encoders]


def judgements_of(studies):
    """The folders of what the votes of some studies say."""
    return [f"{RUN}/judgements/{study}" for study in studies]


def trainings_from(name):
    """How many trainings follow one another from this one to the end of a run, itself included."""
    followers = [
        other
        for other, entry in CONFIG.weights.items()
        if entry.source == "train" and name in entry.starts_from.values()
    ]
    return 1 + max(map(trainings_from, followers), default=0)
