# Tables, notebooks and the report of the run, and their published copies in results/.

TABLES = [
    "table1.csv",
    "table1.md",
    "table1.tex",
    "table1_full.csv",
    "table1_full.md",
    "table1_full.tex",
]


rule tables:
    input:
        bench=f"{RUN}/bench",
        edits=[f"{RUN}/edits/{m}/seed={s}" for m in METHODS for s in seeds_of(m)],
        scores=[f"{RUN}/scores/{m}/{family}" for m in METHODS for family in FAMILIES],
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
                "methods": [
                    {
                        key: m[key]
                        for key in ("name", "editor", "exemplars", "seeds", "tables")
                    }
                    for m in config["methods"]
                ],
            }
        ),
        scores=lambda wildcards, input: Path(input.scores[0]).parents[1],
        edits=lambda wildcards, input: Path(input.edits[0]).parents[1],
        code=code_digest("editclip.report.tables"),
    message:
        "Aggregating scores into tables"
    shell:
        "python -m editclip.report.tables --config {params.config:q} --bench {input.bench}"
        " --scores {params.scores} --edits {params.edits} --out {output} 2> >(tee {log} >&2)"


rule notebook_table1:
    input:
        notebook="notebooks/table1.ipynb",
        tables=f"{RUN}/tables",
        style="editclip/report/templates/table.css",
    output:
        html=f"{RUN}/notebooks/table1.html",
        figures=directory(f"{RUN}/figures"),
    log:
        notebook=f"{RUN}/logs/notebooks/table1.ipynb",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: os.path.dirname(input.tables),
        code=code_digest("editclip.report.figures", "editclip.report.render"),
        bare=[
            f"--HTMLExporter.{library}_url="  # the page asks the network for nothing
            for library in ("mathjax", "require_js", "jquery", "mermaid_js")
        ],
    message:
        "Rendering notebooks/table1.ipynb"
    shell:
        "python -m papermill {input.notebook} {log.notebook} --no-progress-bar --log-level WARNING"
        " -p run_folder {params.run}"
        " && python -m nbconvert --to html --log-level WARN {params.bare} {log.notebook}"
        " --output-dir $(dirname {output.html}) --output $(basename {output.html})"


rule report:
    input:
        tables=f"{RUN}/tables",
        notebooks=f"{RUN}/notebooks/table1.html",
        figures=f"{RUN}/figures",
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
        code=code_digest("editclip.report.page"),
    message:
        "Writing the report"
    shell:
        "python -m editclip.report.page --run {params.run} --out {output} 2> >(tee {log} >&2)"


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
