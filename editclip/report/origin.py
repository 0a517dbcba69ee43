"""Where the numbers of a run come from: code, config, machine, seeds and inputs, and what each stage took.

Everything is read from the provenance.json and the cards that the stages left beside their outputs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.report.results import read_json

SHORT = 12  # hex digits shown of a digest
OF_SEEDS = ("edits", "shards")  # folders of <method>/<seed>/
OF_METHODS = (*OF_SEEDS, "prepared", "scores", "runtime")  # folders of <method>/
STAGES = ("Stage", "Jobs", "Minutes", "Peak memory MiB", "Threads", "Device", "Code")


def provenances(run: Path) -> dict[Path, dict[str, Any]]:
    """Every provenance.json behind the tables of `run`, by its place in it.

    What a killed job left (dot-folders) is passed over, and so are methods and seeds that the config no longer has:
    their outputs stay in the folder.

    Raises:
        InputError: the tables have no provenance.
    """
    config = read_json(run / "tables" / "provenance.json")["config"]
    seeds = {m["name"]: [f"seed={s}" for s in m["seeds"] or config["seeds"]] for m in config["methods"]}

    def belongs(path: Path) -> bool:
        kind, *rest = path.parts
        if any(part.startswith(".") for part in path.parts) or (kind in OF_METHODS and rest[0] not in seeds):
            return False
        return kind not in OF_SEEDS or rest[1] in seeds[rest[0]]

    found = sorted(p.relative_to(run) for p in run.rglob("provenance.json"))
    return {p: read_json(run / p) for p in found if belongs(p)}


def facts(run: Path, made: Mapping[Path, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What one sentence says about the run: (name, text) of code, machine, packages, seeds, bench, weights and trunk.

    Args:
        run: folder of the run.
        made: what `provenances` gives.

    Raises:
        InputError: the tables have no provenance.
    """
    tables = read_json(run / "tables" / "provenance.json")
    trained = [v for p, v in made.items() if p.parts[0] in ("weights", "shards")] or [tables]
    edits = [run / p.parent for p in made if p.parts[0] == "edits"]
    cards = [read_json(folder / "method.json") for folder in edits]
    bases = sorted({str(card["base_seed"]) for card in cards if "base_seed" in card})
    seeds = sorted({int(folder.name.removeprefix("seed=")) for folder in edits})
    digests = sorted(weight_digests(made).items())
    lines = [
        ("Code", ", ".join(dict.fromkeys(commit(v) for v in [tables, *made.values()]))),
        ("Seeds", f"base {', '.join(bases)}; repetitions {', '.join(map(str, seeds))}" if bases else ""),
        ("Bench", _bench(run)),
        ("Weights", ", ".join(f"{name} {value[:SHORT]}" for name, value in digests)),
        ("LPIPS trunk", _trunk(run)),
        ("Device", ", ".join(dict.fromkeys(str(v["device"]) for v in trained))),
        ("Packages", ", ".join([f"Python {tables['python']}", *(f"{n} {v}" for n, v in tables["packages"].items())])),
    ]
    return [(name, text) for name, text in lines if text]


def commit(provenance: Mapping[str, Any]) -> str:
    """The code version of an artefact: "git 1234567890", marked where the tree had uncommitted changes."""
    code = provenance["code"]
    if not code["commit"]:
        return f"no git commit (code digest {code['digest']})"
    return f"git {code['commit'][:10]}" + (" with uncommitted changes" if code["dirty"] else "")


def weight_digests(made: Mapping[Path, Mapping[str, Any]]) -> dict[str, str]:
    """Digest of every set of weights that a stage read, by name."""
    inputs = [i for value in made.values() for i in value["inputs"].values()]
    return {Path(i["path"]).name: i["sha256"] for i in inputs if Path(i["path"]).parent.name == "weights"}


def _bench(run: Path) -> str:
    path = run / "bench" / "bench.json"
    if not path.is_file():
        return ""
    bench = read_json(path)
    return f"{bench['name']} at {bench['resolution']} px, digest {bench['digest'][:SHORT]}"


def _trunk(run: Path) -> str:
    cards = sorted(run.glob("scores/[!.]*/lpips/card.json"))
    if not cards:
        return ""
    lpips = read_json(cards[0])["lpips"]
    return ", ".join([lpips["trunk"], *(f"{net} {value[:SHORT]}" for net, value in lpips.get("networks", {}).items())])


def stages(made: Mapping[Path, Mapping[str, Any]]) -> pd.DataFrame:
    """What each stage took: columns `STAGES`, a row a set of weights, a method or a metric family.

    Minutes are summed over a stage's jobs, some of which ran side by side; memory is the largest job's.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for path, value in made.items():
        rows.setdefault(_stage(path), []).append(value)
    table = []
    for name, jobs in rows.items():
        table.append({
            "Stage": name, "Jobs": len(jobs), "Minutes": f"{sum(j['seconds'] for j in jobs) / 60:.2f}",
            "Peak memory MiB": max(j["peak_memory_mib"] for j in jobs),
            "Threads": _different(j["threads"] for j in jobs), "Device": _different(j["device"] for j in jobs),
            "Code": _different(commit(j).removeprefix("git ") for j in jobs),
        })  # fmt: skip
    return pd.DataFrame(table, columns=list(STAGES)).astype(str)


def _stage(path: Path) -> str:
    """Name of the stage that wrote a provenance.json, from its place in the run."""
    kind, *rest = path.parts
    if kind == "scores":  # scores/<method>/<family>
        return f"scores: {rest[1]}"
    names = {"shards": "edits", "edits": "gathering edits", "prepared": "exemplars"}
    return f"{names.get(kind, kind)}: {rest[0]}" if len(rest) > 1 and kind != "edits" else names.get(kind, kind)


def _different(values: Any) -> str:
    """The distinct values that are known, as one text."""
    return ", ".join(dict.fromkeys(str(v) for v in values if v is not None)) or "–"
