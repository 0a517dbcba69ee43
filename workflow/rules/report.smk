# Tables, notebooks and the report of the run, and their published copies in results/.

from editclip.report.notebook_code import declaration, imported_modules, inputs

# What is copied to results/ of each table.
PUBLISHED = [
    f"results/{{table}}{part}.{kind}"
    for part in ("", "_full")
    for kind in ("csv", "md", "tex")
]


wildcard_constraints:
    table="|".join(CONFIG.tables),


rule record:
    output:
        f"{RUN}/config.yaml",
    log:
        f"{RUN}/logs/record.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=as_json(CONFIG, sort_keys=False),  # the order of rows and weights is the user's
        code=code_digest("editclip.report.record"),
    message:
        "Recording the effective config"
    shell:
        "python -m editclip.report.record --config {params.config:q} --out {output} 2> >(tee {log} >&2)"


rule table:
    input:
        bench=f"{RUN}/bench",
        edits=lambda wildcards: edits_of(CONFIG.tables[wildcards.table].methods),
        scores=lambda wildcards: scores_of(CONFIG.tables[wildcards.table].methods),
        runtime=lambda wildcards: [
            f"{RUN}/runtime/{name}"
            for name in CONFIG.tables[wildcards.table].rows
            if name in TIMED
        ],
        representation=lambda wildcards: (
            f"{RUN}/representation"
            if CONFIG.representation
            and CONFIG.tables[wildcards.table].representation is not None
            else []
        ),
        judgements=lambda wildcards: judgements_of(
            study for study in [CONFIG.tables[wildcards.table].study] if study
        ),
        paper=lambda wildcards: CONFIG.tables[wildcards.table].paper or [],
    output:
        directory(f"{RUN}/tables/{{table}}"),
    log:
        f"{RUN}/logs/tables/{{table}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        table=lambda wildcards: table_part(wildcards.table),
        representation=lambda wildcards, input: (
            f"--representation {input.representation}" if input.representation else ""
        ),
        judgements=lambda wildcards, input: (
            f"--judgements {input.judgements}" if input.judgements else ""
        ),
        code=code_digest("editclip.report.tables"),
    message:
        "Aggregating scores into {wildcards.table}"
    shell:
        "python -m editclip.report.tables --table {params.table:q} --bench {input.bench}"
        " --edits {input.edits} --scores {input.scores} --runtime {input.runtime}"
        " {params.representation} {params.judgements} --out {output} 2> >(tee {log} >&2)"


# Each notebook of the folder is rendered into the report's files, if the run has what it reads; a new one needs no rule.
# Its metadata say which parts of the run these are, and of which table (CONTRIBUTING.md).
RECORDED = {
    "bench": [f"{RUN}/bench"],
    "claims": [f"{RUN}/claims"] if CONFIG.claims else [],
    "judgements": [*judgements_of(JUDGED), *([f"{RUN}/table2"] if JUDGED else [])],
    "weights": [
        weights_folder(name)
        for name in NEEDED_WEIGHTS
        if CONFIG.weights[name].source == "train"
    ],
    **({"attention": attention_of(CONFIG.attention)} if CONFIG.attention else {}),
    **({"retrieval": [f"{RUN}/retrieval"]} if CONFIG.retrieval else {}),
}
OF_TABLES = {
    name: {
        "edits": edits_of(table.methods),
        "scores": scores_of(table.methods),
        "tables": [f"{RUN}/tables/{name}"],
    }
    for name, table in CONFIG.tables.items()
}
try:
    READ = {
        path.stem: inputs(declaration(path), RECORDED, OF_TABLES)
        for path in sorted(Path("notebooks").glob("*.ipynb"))
    }
    NOTEBOOKS = [name for name, paths in READ.items() if paths is not None]
    IMPORTS = {
        name: imported_modules(Path(f"notebooks/{name}.ipynb")) for name in NOTEBOOKS
    }
except InputError as error:
    sys.exit(f"error: {error}")


rule notebook:
    input:
        lambda wildcards: READ[wildcards.notebook],
        notebook="notebooks/{notebook}.ipynb",
        config=f"{RUN}/config.yaml",
        style="editclip/report/templates/table.css",
    output:
        html=f"{RUN}/notebooks/{{notebook}}.html",
        figures=directory(f"{RUN}/figures/{{notebook}}"),
    log:
        notebook=f"{RUN}/logs/notebooks/{{notebook}}.ipynb",
    wildcard_constraints:
        notebook=only(NOTEBOOKS),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: os.path.dirname(input.config),
        code=lambda wildcards: code_digest(
            "editclip.report.notebook", *IMPORTS[wildcards.notebook]
        ),
    message:
        "Rendering notebooks/{wildcards.notebook}.ipynb"
    shell:
        "python -m editclip.report.notebook {input.notebook} --run {params.run} --executed {log.notebook}"
        " --out {output.html}"


rule report:
    input:
        config=f"{RUN}/config.yaml",
        bench=f"{RUN}/bench",
        tables=expand(f"{RUN}/tables/{{table}}", table=CONFIG.tables),
        table2=f"{RUN}/table2" if JUDGED else [],
        claims=f"{RUN}/claims" if CONFIG.claims else [],
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
        run=lambda wildcards, input: os.path.dirname(input.config),
        notebooks=NOTEBOOKS,
        code=code_digest("editclip.report.page"),
    message:
        "Writing the report"
    shell:
        "python -m editclip.report.page --run {params.run} --notebooks {params.notebooks} --out {output}"
        " 2> >(tee {log} >&2)"


rule publish:
    input:
        f"{RUN}/tables/{{table}}",
    output:
        PUBLISHED,
    log:
        f"{RUN}/logs/publish/{{table}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    message:
        "Publishing {wildcards.table} in results/"
    shell:
        "for file in {output}; do cp {input}/$(basename $file) $file || exit 1; done 2> {log}"
