"""Where the numbers of a run come from: code, config, machine, seeds and inputs, and what each stage took.

Everything is read from the provenance.json and the cards that the stages left beside their outputs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.report.files import read_json
from editclip.storage import digest

SHORT = 12  # hex digits shown of a digest
# What the folders of a run are of: entries of this section of the config.
SECTIONS = {"weights": "weights", "tables": "tables", "prepared": "methods", "planned": "methods", "shards": "methods",
            "edits": "methods", "score_shards": "methods", "scores": "methods", "runtime": "methods",
            "studies": "studies", "votes": "studies", "judgements": "studies", "attention": "attention"}  # fmt: skip
STAGES = ("Stage", "Jobs", "Minutes", "Peak memory MiB", "Threads", "Device", "Code")


Provenances = Mapping[Path, Mapping[str, Any]]


def provenances(run: Path, config: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Every provenance.json behind the tables of `run`, by its place in it.

    What a killed job left (dot-folders) is passed over, and so are weights, methods, tables and encoders that the
    config no longer has: their outputs stay in the folder.

    Args:
        run: folder of the run.
        config: its effective config.

    Raises:
        InputError: a file is no JSON, or a table of the config has no provenance.
    """

    def belongs(path: Path) -> bool:
        kind, *rest = path.parts
        section = SECTIONS.get(kind)
        kept = not section or rest[0] in (config.get(section) or ())
        return kept and not any(part.startswith(".") for part in path.parts)

    places = {path.relative_to(run) for path in run.rglob("provenance.json")}
    places |= {Path("tables", name, "provenance.json") for name in config["tables"]}
    return {place: read_json(run / place) for place in sorted(places) if belongs(place)}


def facts(run: Path, config: Mapping[str, Any], provenance: Provenances) -> list[tuple[str, str]]:
    """What one line each says about the run: (name, text) of code, config, seeds, bench, weights, trunk and machine.

    Args:
        run: folder of the run.
        config: its effective config.
        provenance: what `provenances` gives.
    """
    tables = [value for place, value in provenance.items() if place.parts[0] == "tables"]
    computed = [v for place, v in provenance.items() if place.parts[0] in ("weights", "shards")] or tables
    edits = [path for place in provenance if place.parts[0] == "edits" for path in (run / place.parent).glob("seed=*")]
    cards = [read_json(folder / "method.json") for folder in edits]
    bases = sorted({str(card["base_seed"]) for card in cards if "base_seed" in card})
    seeds = sorted({int(folder.name.removeprefix("seed=")) for folder in edits})
    digests = sorted(weight_digests(provenance).items())
    packages = [f"{name} {version}" for name, version in tables[0]["packages"].items()]
    lines = [
        ("Code", ", ".join(dict.fromkeys(commit(v) for v in [*tables, *provenance.values()]))),
        ("Config", f"{config['run']['name']}, digest {digest(config)[:SHORT]}"),
        ("Seeds", f"base {', '.join(bases)}; repetitions {', '.join(map(str, seeds))}" if bases else ""),
        ("Bench", _bench(run)),
        ("Weights", ", ".join(f"{name} {value[:SHORT]}" for name, value in digests)),
        ("LPIPS trunk", _trunk(run, config["methods"])),
        ("Device", ", ".join(dict.fromkeys(str(v["device"]) for v in computed))),
        ("Packages", ", ".join([f"Python {tables[0]['python']}", *packages])),
    ]
    return [(name, text) for name, text in lines if text]


def commit(provenance: Mapping[str, Any]) -> str:
    """The code version of an artefact: "git 1234567890", marked where the tree had uncommitted changes."""
    code = provenance["code"]
    if not code["commit"]:
        return f"no git commit (code digest {code['digest']})"
    return f"git {code['commit'][:10]}" + (" with uncommitted changes" if code["dirty"] else "")


def weight_digests(provenance: Provenances) -> dict[str, str]:
    """Digest of every set of weights that a stage read, by name."""
    inputs = [i for value in provenance.values() for i in value["inputs"].values()]
    return {Path(i["path"]).name: i["sha256"] for i in inputs if Path(i["path"]).parent.name == "weights"}


def _bench(run: Path) -> str:
    path = run / "bench" / "bench.json"
    if not path.is_file():
        return ""
    bench = read_json(path)
    return f"{bench['name']} at {bench['resolution']} px, digest {bench['digest'][:SHORT]}"


def _trunk(run: Path, methods: Iterable[str]) -> str:
    cards = [path for name in methods if (path := run / "scores" / name / "lpips" / "card.json").is_file()]
    if not cards:
        return ""
    lpips = read_json(cards[0])["lpips"]
    return ", ".join([lpips["trunk"], *(f"{net} {value[:SHORT]}" for net, value in lpips.get("networks", {}).items())])


def stages(provenance: Provenances) -> pd.DataFrame:
    """What each stage took: columns `STAGES`, one row per set of weights, method, metric family or table.

    Minutes are summed over a stage's jobs, some of which ran side by side; memory is the largest job's.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for path, value in provenance.items():
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
    if kind in ("scores", "score_shards") and len(rest) > 2:  # <method>/<family>/, <method>/<shard>/<family>/
        return f"scores: {path.parent.name}"
    names = {"shards": "edits", "edits": "gathering edits", "prepared": "exemplars", "planned": "plans"}
    return f"{names.get(kind, kind)}: {rest[0]}" if len(rest) > 1 and kind != "edits" else names.get(kind, kind)


def _different(values: Any) -> str:
    """The distinct values that are known, as one text."""
    return ", ".join(dict.fromkeys(str(v) for v in values if v is not None)) or "–"
