# Tables, notebooks and the report of the run, and their published copies in results/.

TABLES = ["table1.csv", "table1.md", "table1.tex", "table1_full.csv", "table1_full.md", "table1_full.tex"]


rule tables:
    message:
        "Aggregating scores into tables"
    input:
        bench=f"{RUN}/bench",
        edits=[f"{RUN}/edits/{m}/seed={s}" for m in METHODS for s in seeds_of(m)],
        scores=[f"{RUN}/scores/{m}/{family}" for m in METHODS for family in FAMILIES],
        paper="paper/table1.csv",
    output:
        directory(f"{RUN}/tables"),
    params:
        config=lambda wildcards, input: as_json(
            {
                "label": config["run"]["label"],
                "notice": config["run"]["notice"],
                "paper": input.paper,
                "seeds": config["run"]["seeds"],
                "methods": [
                    {key: m[key] for key in ("name", "exemplars", "seeds", "tables")}
                    for m in config["methods"]
                ],
            }
        ),
        scores=f"{RUN}/scores",
        edits=f"{RUN}/edits",
        code=code_digest("editclip.report.tables"),
    localrule: True
    log:
        f"{RUN}/logs/tables.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m editclip.report.tables --config {params.config:q} --bench {input.bench}"
        " --scores {params.scores} --edits {params.edits} --out {output} 2> >(tee {log} >&2)"


rule notebook_table1:
    message:
        "Rendering notebooks/table1.ipynb"
    input:
        notebook="notebooks/table1.ipynb",
        tables=f"{RUN}/tables",
    output:
        html=f"{RUN}/notebooks/table1.html",
        figures=directory(f"{RUN}/figures"),
    params:
        run=RUN,
        code=code_digest("editclip.report.figures", "editclip.report.render"),
        bare=[
            f"--HTMLExporter.{library}_url="  # the page asks the network for nothing
            for library in ("mathjax", "require_js", "jquery", "mermaid_js")
        ],
    localrule: True
    log:
        notebook=f"{RUN}/logs/notebooks/table1.ipynb",
    conda:
        ENVIRONMENT
    shell:
        "python -m papermill {input.notebook} {log.notebook} --no-progress-bar --log-level WARNING"
        " -p run_folder {params.run}"
        " && python -m nbconvert --to html --log-level WARN {params.bare} {log.notebook}"
        " --output-dir $(dirname {output.html}) --output $(basename {output.html})"


rule report:
    message:
        "Writing the report"
    input:
        tables=f"{RUN}/tables",
        notebooks=f"{RUN}/notebooks/table1.html",
    output:
        "{folder}/report.html",
    wildcard_constraints:
        folder=f"results|{RUN}",
    params:
        run=RUN,
        code=code_digest("editclip.report.page"),
    localrule: True
    log:
        f"{RUN}/logs/{{folder}}/report.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m editclip.report.page --run {params.run} --out {output} 2> >(tee {log} >&2)"


rule publish:
    message:
        "Publishing the tables of {params.run} in results/"
    input:
        tables=f"{RUN}/tables",
    output:
        expand("results/{table}", table=TABLES),
    params:
        run=RUN,
        names=TABLES,
    localrule: True
    log:
        f"{RUN}/logs/publish.log",
    conda:
        ENVIRONMENT
    shell:
        "(cd {input.tables} && cp {params.names} ../..) 2> {log}"
