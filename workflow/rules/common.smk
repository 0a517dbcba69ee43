# What the rules share: the checked config, the methods' cards, and each stage's code digest.

from editclip.editing.cards import parse_method
from editclip.config import checked_config
from editclip.errors import InputError
from editclip.provenance import code_digest

# Jobs call `python`: without conda it must be the interpreter that runs Snakemake, activated or not.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]

try:
    config = checked_config(config, workflow.source_path("../schemas/config.schema.yaml"))
    CARDS = {m["name"]: parse_method(m).card for m in config["methods"]}
except InputError as error:
    sys.exit(f"error: {error}")

RUN = f"results/{config['run']['name']}"
METHODS = {method["name"]: method for method in config["methods"]}
ENVIRONMENT = "../../environment.yml"


def as_json(part):
    """A part of the config as one command-line argument; Snakemake reruns a job when it changes."""
    return json.dumps(part, sort_keys=True, ensure_ascii=False)


def seeds_of(method):
    """The repetitions of one method: its own `seeds`, or the run's."""
    own = METHODS[method]["seeds"]
    return config["run"]["seeds"] if own is None else own
