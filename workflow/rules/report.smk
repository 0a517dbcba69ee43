# Tables, notebooks and the report of the run, and their published copies in results/.

TABLES = [
    "table1.csv",
    "table1.md",
    "table1.tex",
    "table1_full.csv",
    "table1_full.md",
    "table1_full.tex",
]

EDITS = [f"{RUN}/edits/{m}/seed={s}" for m in METHODS for s in seeds_of(m)]
SCORES = [f"{RUN}/scores/{m}/{family}" for m in METHODS for family in FAMILIES]


rule tables:
    input:
        bench=f"{RUN}/bench",
        edits=EDITS,
        scores=SCORES,
        runtime=[f"{RUN}/runtime/{m}" for m in TIMED],
        paper="paper/table1.csv",
    output:
        directory(f"{RUN}/tables"),
    log:
        f"{RUN}/logs/tables.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=lambda wildcards, input: as_json(
            {
                "label": config["run"]["label"],
                "notice": config["run"]["notice"],
                "paper": input.paper,
                "seeds": config["run"]["seeds"],
                "statistics": config["statistics"],
                "methods": methods_as(
                    "name", "editor", "exemplars", "seeds", "tables"
                ),
            }
        ),
        scores=lambda wildcards, input: Path(input.scores[0]).parents[1],
        edits=lambda wildcards, input: Path(input.edits[0]).parents[1],
        code=code_digest("editclip.report.tables"),
    message:
        "Aggregating scores into tables"
    shell:
        "python -m editclip.report.tables --config {params.config:q} --bench {input.bench}"
        " --scores {params.scores} --edits {params.edits} --runtime {input.runtime} --out {output} 2> >(tee {log} >&2)"


rule evidence:
    input:
        bench=f"{RUN}/bench",
        edits=EDITS,
        scores=SCORES,
        representation=[f"{RUN}/representation"] if config["representation"] else [],
    output:
        f"{RUN}/evidence.csv",
    log:
        f"{RUN}/logs/evidence.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=as_json(
            {
                "seeds": config["run"]["seeds"],
                "statistics": config["statistics"],
                "methods": methods_as(
                    "name", "editor", "exemplars", "seeds", "tables", "options"
                ),
            }
        ),
        scores=lambda wildcards, input: Path(input.scores[0]).parents[1],
        edits=lambda wildcards, input: Path(input.edits[0]).parents[1],
        code=code_digest("editclip.report.evidence"),
    message:
        "Weighing the evidence"
    shell:
        "python -m editclip.report.evidence --config {params.config:q} --bench {input.bench}"
        " --scores {params.scores} --edits {params.edits} --representation {input.representation}"
        " --out {output} 2> >(tee {log} >&2)"


# Each notebook of the folder is rendered into the report's files; a new one needs no rule.
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
DRAWING = [  # what they import
    f"editclip.report.{module}"
    for module in ("evidence_table", "figures", "pictures", "training")
]


rule notebook:
    input:
        notebook="notebooks/{notebook}.ipynb",
        tables=f"{RUN}/tables",
        evidence=f"{RUN}/evidence.csv",
        style="editclip/report/templates/table.css",
    output:
        html=f"{RUN}/notebooks/{{notebook}}.html",
        figures=directory(f"{RUN}/figures/{{notebook}}"),
    log:
        notebook=f"{RUN}/logs/notebooks/{{notebook}}.ipynb",
    wildcard_constraints:
        notebook="|".join(NOTEBOOKS),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: os.path.dirname(input.tables),
        code=code_digest(*DRAWING),
        bare=[
            f"--HTMLExporter.{library}_url="  # the page asks the network for nothing
            for library in ("mathjax", "require_js", "jquery", "mermaid_js")
        ],
    message:
        "Rendering notebooks/{wildcards.notebook}.ipynb"
    shell:
        "python -m papermill {input.notebook} {log.notebook} --no-progress-bar --log-level WARNING"
        " -p run_folder {params.run}"
        " && python -m nbconvert --to html --log-level WARN {params.bare} {log.notebook}"
        " --output-dir $(dirname {output.html}) --output $(basename {output.html})"


rule report:
    input:
        tables=f"{RUN}/tables",
        evidence=f"{RUN}/evidence.csv",
        notebooks=expand(f"{RUN}/notebooks/{{notebook}}.html", notebook=NOTEBOOKS),
        figures=expand(f"{RUN}/figures/{{notebook}}", notebook=NOTEBOOKS),
        templates=watched("editclip/report/templates"),
    output:
        "{folder}/report.html",
    log:
        f"{RUN}/logs/{{folder}}/report.log",
    wildcard_constraints:
        folder=f"results|{RUN}",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: os.path.dirname(input.tables),
        config=as_json(config),
        code=code_digest("editclip.report.page"),
    message:
        "Writing the report"
    shell:
        "python -m editclip.report.page --run {params.run} --config {params.config:q} --out {output} 2> >(tee {log} >&2)"


rule publish:
    input:
        tables=f"{RUN}/tables",
    output:
        expand("results/{table}", table=TABLES),
    log:
        f"{RUN}/logs/publish.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: os.path.dirname(input.tables),
        names=TABLES,
    message:
        "Publishing the tables of {params.run} in results/"
    shell:
        "(cd {input.tables} && cp {params.names} ../..) 2> {log}"
