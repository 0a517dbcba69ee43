# Studies with judges: pairs of edits to vote on, the votes, what they say of methods and of metrics (Table 2), and the
# verdict on every claim of the paper.


wildcard_constraints:
    study=only(CONFIG.studies),


# Studies by where their votes come from, and those that have any; the others are drawn and exported only.
OF_ORIGIN = {
    source: [
        name for name, entry in CONFIG.studies.items() if entry.origin.source == source
    ]
    for source in ("oracle", "path", "none")
}
JUDGED = [name for name in CONFIG.studies if name not in OF_ORIGIN["none"]]
for _name in OF_ORIGIN["path"]:
    _file = CONFIG.studies[_name].origin.path
    if not os.path.isfile(_file):
        sys.exit(
            f"error: config value studies.{_name}.origin.path: there is no file {_file}"
        )

# What is copied to results/, by folder of the run.
TABLE2 = [
    f"table2/{name}"
    for name in (
        "table2.csv",
        "table2.md",
        "table2.tex",
        "table2_full.csv",
        "table2_full.md",
    )
]
CLAIMS = ["claims/claims.csv", "claims/claims.md"]
COPIED = [*(TABLE2 if JUDGED else []), *(CLAIMS if CONFIG.claims else [])]
PUBLISHED_STUDIES = [f"results/{os.path.basename(name)}" for name in COPIED]
# What claims speak of: the methods behind the rows of all tables, and those that are rows themselves.
BEHIND_ROWS = list(
    dict.fromkeys(name for table in CONFIG.tables.values() for name in table.methods)
)
ROWS = [
    name
    for name in BEHIND_ROWS
    if any(name in table.rows for table in CONFIG.tables.values())
]


rule study:
    input:
        bench=f"{RUN}/bench",
        edits=lambda wildcards: edits_of(CONFIG.studies[wildcards.study].shown),
    output:
        directory(f"{RUN}/studies/{{study}}"),
    log:
        f"{RUN}/logs/study/{{study}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        study=lambda wildcards: as_json(CONFIG.studies[wildcards.study].design),
        seed=CONFIG.run.seed,
        code=code_digest("editclip.study.design"),
    message:
        "Drawing the comparisons of the study {wildcards.study}"
    shell:
        "python -m editclip.study.design --study {params.study:q} --bench {input.bench} --edits {input.edits}"
        " --seed {params.seed} --out {output} 2> >(tee {log} >&2)"


rule oracle_votes:
    input:
        bench=f"{RUN}/bench",
        study=f"{RUN}/studies/{{study}}",
    output:
        directory(f"{RUN}/votes/{{study}}"),
    log:
        f"{RUN}/logs/votes/{{study}}.log",
    wildcard_constraints:
        study=only(OF_ORIGIN["oracle"]),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=lambda wildcards: as_json(CONFIG.studies[wildcards.study].origin),
        seed=CONFIG.run.seed,
        code=code_digest("editclip.study.oracle"),
    message:
        "Drawing an oracle's votes in the study {wildcards.study}"
    shell:
        "python -m editclip.study.oracle --config {params.config:q} --study {input.study} --bench {input.bench}"
        " --seed {params.seed} --out {output} 2> >(tee {log} >&2)"


rule given_votes:
    input:
        study=f"{RUN}/studies/{{study}}",
        votes=lambda wildcards: CONFIG.studies[wildcards.study].origin.path,
    output:
        directory(f"{RUN}/votes/{{study}}"),
    log:
        f"{RUN}/logs/votes/{{study}}.log",
    wildcard_constraints:
        study=only(OF_ORIGIN["path"]),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=code_digest("editclip.study.votes"),
    message:
        "Checking the votes of the study {wildcards.study}"
    shell:
        "python -m editclip.study.votes --study {input.study} --votes {input.votes:q} --out {output}"
        " 2> >(tee {log} >&2)"


rule judgements:
    input:
        bench=f"{RUN}/bench",
        study=f"{RUN}/studies/{{study}}",
        votes=f"{RUN}/votes/{{study}}",
        scores=lambda wildcards: scores_of(CONFIG.studies[wildcards.study].methods),
    output:
        directory(f"{RUN}/judgements/{{study}}"),
    log:
        f"{RUN}/logs/judgements/{{study}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        study=lambda wildcards: as_json(CONFIG.studies[wildcards.study]),
        statistics=as_json(CONFIG.statistics),
        code=code_digest("editclip.study.judgements"),
    message:
        "Holding methods and metrics against the votes of the study {wildcards.study}"
    shell:
        "python -m editclip.study.judgements --study-entry {params.study:q} --statistics {params.statistics:q}"
        " --study {input.study} --votes {input.votes} --scores {input.scores} --bench {input.bench}"
        " --out {output} 2> >(tee {log} >&2)"


rule table2:
    input:
        judgements=judgements_of(JUDGED),
        paper="paper/table2.csv",
    output:
        directory(f"{RUN}/table2"),
    log:
        f"{RUN}/logs/table2.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        label=CONFIG.run.label,
        notice=CONFIG.run.notice or "",
        code=code_digest("editclip.report.table2"),
    message:
        "Making Table 2: how well metrics agree with votes"
    shell:
        "python -m editclip.report.table2 --judgements {input.judgements} --paper {input.paper}"
        " --label {params.label:q} --notice {params.notice:q} --out {output} 2> >(tee {log} >&2)"


if CONFIG.claims:

    rule claims:
        input:
            claims=CONFIG.claims.file,
            bench=f"{RUN}/bench",
            edits=edits_of(BEHIND_ROWS),
            scores=scores_of(BEHIND_ROWS),
            runtime=[f"{RUN}/runtime/{name}" for name in ROWS if name in TIMED],
            judgements=judgements_of(JUDGED),
            attention=attention_of(CONFIG.attention or ()),
        output:
            directory(f"{RUN}/claims"),
        log:
            f"{RUN}/logs/claims.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            scope=CONFIG.claims.scope,
            names=as_json(CONFIG.claims.names),
            tables=[table_part(table) for table in CONFIG.tables],
            code=code_digest("editclip.report.claims"),
        message:
            "Holding the run against the paper's claims"
        shell:
            "python -m editclip.report.claims --claims {input.claims:q} --scope {params.scope}"
            " --names {params.names:q} --table {params.tables:q} --bench {input.bench} --edits {input.edits}"
            " --scores {input.scores} --runtime {input.runtime} --judgements {input.judgements}"
            " --attention {input.attention} --out {output} 2> >(tee {log} >&2)"


rule publish_studies:
    input:
        table2=f"{RUN}/table2" if JUDGED else [],
        claims=f"{RUN}/claims" if CONFIG.claims else [],
    output:
        PUBLISHED_STUDIES,
    log:
        f"{RUN}/logs/publish_studies.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        copied=[f"{RUN}/{name}" for name in COPIED],
    message:
        "Publishing Table 2 and the claims in results/"
    shell:
        "cp {params.copied} results/ 2> {log}"
