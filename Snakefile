# The whole benchmark: triplets and bench -> weights -> edits -> scores -> tables -> report.
#
#   snakemake --cores all                                    the micro run (config/micro.yaml)
#   snakemake --cores all --configfile config/smoke.yaml     the same flow in minutes
#   snakemake --cores all --use-conda --configfile config/paper.yaml      from the environment of launcher.yml
#
# Each rule is a thin wrapper over one `python -m editclip.…`, which also works without Snakemake.

import json
import os
import shutil
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19.0")

# Snakemake itself would stop with a shell's "command not found"; the exit comes before its header and its DAG.
if shutil.which("conda") is None and "conda" in map(
    str, workflow.deployment_settings.deployment_method
):
    sys.exit(
        "error: --use-conda needs conda on PATH: install it, then `conda env create -f launcher.yml` and"
        " `conda activate editclip-bench`, or leave the option out (`make reproduce` needs no conda)"
    )


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/edit.smk"
include: "workflow/rules/runtime.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("results/{table}.csv", table=CONFIG.tables),
        expand(f"{RUN}/studies/{{study}}", study=CONFIG.studies),
        PUBLISHED_STUDIES,
        "results/report.html",
