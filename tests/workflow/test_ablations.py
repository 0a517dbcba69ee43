"""The overlay of the ablations, over a finished smoke run."""

import re

from workflow_project import ROOT, SMOKE, Project

from editclip.config.bindings import methods_of
from editclip.config.tree import read_config

OVERLAY = "config/ablations.yaml"
SHOWING = "Recording|Rendering|Writing the report|Holding the run against|Publishing"  # no computing


def test_the_ablations_compute_nothing_of_the_main_run_again(smoke: Project) -> None:
    main, config = read_config(ROOT / SMOKE), read_config(ROOT / SMOKE, ROOT / OVERLAY)
    added = {name for part in ("weights", "methods", "tables") for name in getattr(config, part)}
    added -= {name for part in ("weights", "methods", "tables") for name in getattr(main, part)}
    planned = smoke.planned(OVERLAY)
    computing = {message for message in planned if not re.match(SHOWING, message)}
    assert {message for message in computing if not added & set(re.findall(r"[\w.-]+", message))} == set()
    assert {f"Training {name}" for name in set(config.weights) - set(main.weights)} <= computing
    edited = set(methods_of(config)) - set(methods_of(main))
    assert edited == {name for name in edited if f"Editing with {name}, shard 0-of-1" in computing}
    # a row of several trainings is not timed
    assert not {message for message in computing if message.startswith("Timing ablated")}
