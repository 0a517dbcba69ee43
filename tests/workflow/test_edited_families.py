"""What of the bench the stages of a method are told to take: what its tables and studies are about."""

import re
from collections.abc import Mapping
from pathlib import Path

from workflow_project import checkout

USUAL, OF_PARTS, BOTH = "[null]", '[["compound", "multi"]]', '[null, ["compound", "multi"]]'
EXPECTED: Mapping[str, str] = {
    "ip2p": BOTH, "editclip": BOTH, "instamanip": BOTH, "ground_truth": BOTH, "ip2p-turn-by-turn": OF_PARTS,
    "visii": USUAL, "shuffled-editclip": USUAL, "prompt-diffusion": USUAL, "ledits-pp": USUAL,
}  # fmt: skip


def test_every_stage_of_a_method_takes_the_families_of_its_tables_and_studies(tmp_path: Path) -> None:
    project = checkout(tmp_path)
    done = project.snakemake("-n", "-p", "--configfile", "config/micro.yaml")
    printed = (done.stdout + done.stderr).replace("'", "")
    told: dict[str, set[str]] = {}
    timed: dict[str, str] = {}
    for line in printed.splitlines():
        if stage := re.search(r"python -m editclip\.(editing\.(?:edits|runtime)|metrics\.(?:scoring|gather)) ", line):
            families = re.search(r" --families (\[.*?\]+)(?= --)", line)
            method = re.search(r"results/micro/(?:edits|shards|prepared|planned|scores|runtime)/([\w-]+)", line)
            assert families and method, line
            if stage[1] == "editing.runtime":
                timed[method[1]] = families[1]
            else:
                told.setdefault(method[1], set()).add(families[1])
    assert {name: told[name] for name in EXPECTED} == {name: {families} for name, families in EXPECTED.items()}
    # Methods of single edits are timed on the same samples; one that edits those of several parts alone, on these.
    assert timed["ip2p"] == timed["visii"] == USUAL and timed["ip2p-turn-by-turn"] == OF_PARTS
