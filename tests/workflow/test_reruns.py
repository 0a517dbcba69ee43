"""Editing a file or a config value reruns exactly what depends on it, and what computes nothing reruns nothing."""

import ast
import contextlib
import functools
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from workflow_project import ROOT, SMOKE, Project

from editclip.config.bindings import methods_of
from editclip.config.tree import read_config
from editclip.provenance import code_digest
from editclip.report.notebook_code import declaration, imported_modules

MODULES = sorted(
    p.relative_to(ROOT).as_posix() for package in ("editclip", "baselines") for p in (ROOT / package).rglob("*.py")
)
TIMED = ("ip2p", "editclip", "visii", "prompt-diffusion", "instamanip")  # rows of a table that are no control
FAMILIES = ("lpips", "clip", "editclip", "ground_truth")
LOOP = "editclip/training/loop.py"
MICRO = "config/micro.yaml"  # which the smoke config is like
TRAININGS = {
    "clip": "clip",
    "clip_matched": "clip",
    "vae": "vae",
    "text_to_image": "text_to_image",
    "ip2p": "ip2p",
    "editclip": "contrastive",
    "editclip_ip2p": "exemplar_diffusion",
}
OF_METHODS = {
    "prompt_diffusion": "prompt_diffusion.training",
    "instamanip_vision": "instamanip.train_vision",
    "instamanip_renderer": "instamanip.train_renderer",
    "instamanip": "instamanip.training",
}
TABLES = read_config(ROOT / SMOKE).tables
NOTEBOOKS = {  # that it renders: the modules that they import
    path.stem: imported_modules(path)
    for path in (ROOT / "notebooks").glob("*.ipynb")
    if declaration(path).table in (None, *TABLES)
}


def dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def ancestors(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def imports(folder: Path) -> dict[str, set[str]]:
    """Module → our modules it imports, read with regular expressions (independent of `editclip.provenance`)."""
    modules = {dotted(name): name for name in MODULES}
    graph: dict[str, set[str]] = {}
    for module, name in modules.items():
        text = re.sub(r"\(([^()]*)\)", lambda m: m.group(1).replace("\n", " "), (folder / name).read_text())
        named: set[str] = set()
        for base, members in re.findall(r"^\s*from ([\w.]+) import ([^\n#]+)", text, flags=re.MULTILINE):
            named |= {base, *(f"{base}.{member.split()[0]}" for member in members.split(",") if member.strip())}
        named |= set(re.findall(r"^\s*import ([\w.]+)", text, flags=re.MULTILINE))
        graph[module] = {a for n in named for a in ancestors(n) if a in modules}
    return graph


def reached(graph: dict[str, set[str]], *entries: str) -> set[str]:
    """Our modules that run when the entries are imported."""
    pending, seen = [a for entry in entries for a in ancestors(entry)], set[str]()
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            pending.extend(graph[module])
    return seen


def entries_by_output(folder: Path) -> dict[str, list[str]]:
    """Every output of the smoke run (folder or file) → the modules its rule runs."""
    config = read_config(folder / SMOKE)
    run = f"results/{config.run.name}"
    entries = {
        f"{run}/triplets": ["editclip.data.world"],
        f"{run}/tree": ["editclip.data.world"],
        f"{run}/bench": ["editclip.data.bench"],
        f"{run}/representation": ["editclip.metrics.representation"],
        f"{run}/attention/editclip": ["editclip.metrics.attention"],
        f"{run}/retrieval": ["editclip.metrics.retrieval"],
        f"{run}/lpips_trunks.json": ["editclip.metrics.fetch_trunks"],
        f"{run}/tables/table1": ["editclip.report.tables"],
        f"{run}/table2": ["editclip.report.table2"],
        f"{run}/claims": ["editclip.report.claims"],
        f"{run}/config.yaml": ["editclip.report.record"],
        "results/report.html": ["editclip.report.page"],
    }
    for name, drawing in NOTEBOOKS.items():
        rendering = ["editclip.report.notebook", *drawing]
        entries[f"{run}/notebooks/{name}.html"] = entries[f"{run}/figures/{name}"] = rendering
    for name, training in TRAININGS.items():
        entries[f"{run}/weights/{name}"] = [f"editclip.training.{training}"]
    for name, training in OF_METHODS.items():
        entries[f"{run}/weights/{name}"] = [f"baselines.{training}"]
    for name in config.studies:
        entries[f"{run}/studies/{name}"] = ["editclip.study.design"]
        entries[f"{run}/votes/{name}"] = ["editclip.study.oracle"]
        entries[f"{run}/judgements/{name}"] = ["editclip.study.judgements"]
    for name in methods_of(config):
        method = config.methods[name]
        source = ROOT / method.editor.replace(".", "/")
        source = source / "method.py" if source.is_dir() else source.with_suffix(".py")
        module = dotted(source.relative_to(ROOT).as_posix())
        runner = ["editclip.editing.edits", module]
        shards = [f"{i}-of-{method.shards}" for i in range(method.shards)]
        for word, stage in (("prepare", "prepared"), ("plan", "planned")):
            if f'"{word}"' in source.read_text():
                entries |= {f"{run}/{stage}/{name}/{shard}": runner for shard in shards}
        if name in TIMED:
            entries[f"{run}/runtime/{name}"] = ["editclip.editing.runtime", module]
        scoring = ["editclip.metrics.scoring", *(f"editclip.metrics.{family}" for family in FAMILIES)]
        entries |= {f"{run}/score_shards/{name}/{shard}": scoring for shard in shards if len(shards) > 1}
        last = scoring if len(shards) == 1 else ["editclip.metrics.gather"]
        entries |= {f"{run}/scores/{name}/{family}": last for family in FAMILIES}
        entries |= {f"{run}/shards/{name}/{shard}": runner for shard in shards}
        entries[f"{run}/edits/{name}"] = ["editclip.editing.edits"]
    return entries


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to edit."""
    folder = tmp_path_factory.mktemp("sources")
    for package in ("editclip", "baselines", "config"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_editing_a_module_changes_exactly_the_digests_of_what_imports_it(sources: Path, name: str) -> None:
    """Of the modules behind every output; `test_editing_…_reruns_…` shows that Snakemake follows the digests."""
    graph = imports(sources)
    entries = sorted({tuple(modules) for modules in entries_by_output(sources).values()})
    expected = {entry for entry in entries if dotted(name) in reached(graph, *entry)}
    before = {entry: code_digest(*entry, root=sources) for entry in entries}
    with Project(sources).edited(name, lambda text: text + "\n_EDITED = 1\n"):
        assert {entry for entry in entries if code_digest(*entry, root=sources) != before[entry]} == expected


@pytest.mark.parametrize(
    "name",
    [
        *("editclip/conditioning.py", "baselines/visii/inversion.py"),
        *("editclip/metrics/features.py", "editclip/report/picture_grid.py", "editclip/study/sheet.py"),
    ],
)
def test_editing_a_module_reruns_exactly_what_imports_it(smoke: Project, name: str) -> None:
    entries = entries_by_output(smoke.folder)
    graph = imports(smoke.folder)
    expected = {output for output, modules in entries.items() if dotted(name) in reached(graph, *modules)}
    with smoke.edited(name, lambda text: text + "\n_EDITED = 1\n"):
        assert smoke.changed() == expected


def messages(jobs: set[str]) -> set[str]:
    """The kinds of jobs among their messages: the first two words."""
    return {" ".join(job.rstrip(",").split()[:2]) for job in jobs}


RENDERING = {f"Rendering notebooks/{name}.ipynb" for name in NOTEBOOKS}
REPORTING = {
    "Aggregating scores", "Holding the", *RENDERING, "Publishing table1", "Publishing Table", "Writing the",
}  # fmt: skip
RECORDING = {"Recording the", *REPORTING}
JUDGING = {"Holding methods", "Making Table"}
VOTING = {"Drawing an", *JUDGING}


@contextlib.contextmanager
def all_edited(project: Project, names: list[str], change: Callable[[str], str]) -> Iterator[None]:
    """All these files of the project rewritten inside the block."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(project.edited(name, change))
        yield


def commented(text: str) -> str:
    """A source text with another comment and module docstring, and with a docstring more for each attribute."""
    lines = text.splitlines(keepends=True)
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    for node in sorted((n for c in classes for n in c.body if isinstance(n, ast.AnnAssign)), key=lambda n: -n.lineno):
        lines.insert(node.end_lineno or 0, " " * node.col_offset + '"""Edited."""\n')
    return re.sub(r'\A(r?""")', r"\1Edited. ", "".join(lines)) + "\n# edited\n"


def bumped(text: str) -> str:
    """pyproject.toml with another version."""
    return text.replace('\nversion = "', '\nversion = "9.')


def redrawn(text: str) -> str:
    """The training loop with other random seeds."""
    return text.replace("[:15], 16)", "[:14], 16)")


def test_comments_and_docstrings_rerun_nothing(smoke: Project) -> None:
    with all_edited(smoke, MODULES, commented):
        assert smoke.changed() == set() == smoke.planned()


PRESENTED = {
    "LABEL": r'\1"Renamed"',
    "PAPER": r'\1"https://example.org"',
    "LICENSE": r'\1"none stated"',
    "TRAINED_ON": r'\1("elsewhere",)',
    "GPU_GB": r"\g<1>99",
    "LOSS": r'\1"error"',
}


def test_what_modules_only_present_makes_nothing_anew_but_its_presentation(smoke: Project) -> None:
    with contextlib.ExitStack() as stack:
        for literal, new in PRESENTED.items():
            line = re.compile(rf"^({literal} = )[\"'(\d].*", flags=re.MULTILINE)  # of a literal
            names = [name for name in MODULES if line.search((smoke.folder / name).read_text())]
            assert names, literal
            stack.enter_context(all_edited(smoke, names, functools.partial(line.sub, new)))
        assert set() != messages(smoke.planned()) <= REPORTING


def test_a_new_version_reruns_nothing(smoke: Project) -> None:
    with smoke.edited("pyproject.toml", bumped):
        assert smoke.planned() == set()


def test_a_changed_constant_of_the_loop_repeats_the_trainings(smoke: Project) -> None:
    entries = entries_by_output(smoke.folder)
    graph = imports(smoke.folder)
    expected = {output for output, modules in entries.items() if dotted(LOOP) in reached(graph, *modules)}
    assert {output.split("/")[2] for output in expected} == {"weights"}
    with smoke.edited(LOOP, redrawn):
        assert smoke.changed() == expected


def test_where_the_package_is_not_installed(smoke: Project, tmp_path: Path) -> None:
    """As in the conda environment, which holds the dependencies alone and runs the checkout."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "editclip" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    bare = replace(smoke, site=tmp_path)
    with all_edited(smoke, MODULES, commented), smoke.edited("pyproject.toml", bumped):
        assert bare.planned() == set()
    with smoke.edited(LOOP, redrawn):
        assert bare.changed() == smoke.changed() != set()


def test_a_changed_guidance_scale_reruns_that_method_and_what_is_like_it(smoke: Project) -> None:
    with smoke.edited(SMOKE, lambda text: text.replace("{guidance_scale: 7}", "{guidance_scale: 5}")):
        planned = smoke.planned()
    methods = {job.split()[2].rstrip(",:") for job in planned if job.startswith("Editing with")}
    assert methods == {"editclip", "shuffled-editclip"}
    assert messages(planned) == {
        "Preparing the", "Editing with", "Gathering the", "Timing editclip", "Scoring editclip",
        "Scoring shuffled-editclip", "Drawing the", *VOTING, *RECORDING,
    }  # fmt: skip


def test_a_changed_metric_scores_anew_and_does_nothing_else(smoke: Project) -> None:
    """That the other families come from the cache is tested where they are scored."""
    with smoke.edited(MICRO, lambda text: text.replace("minimum_length: 1.0e-4", "minimum_length: 1.0e-3")):
        planned = smoke.planned()
    methods = set(methods_of(read_config(ROOT / SMOKE)))
    shards = {"ip2p, shard 0-of-2", "ip2p, shard 1-of-2"}
    assert {job.removeprefix("Scoring ") for job in planned if job.startswith("Scoring")} == methods - {"ip2p"} | shards
    assert {job for job in planned if job.startswith("Gathering")} == {"Gathering the scores of ip2p"}
    assert {m for m in messages(planned) if not m.startswith(("Scoring", "Gathering"))} == JUDGING | RECORDING


def test_other_raters_vote_on_the_comparisons_that_were_drawn(smoke: Project) -> None:
    with smoke.edited(MICRO, lambda text: text.replace("noise: 2.0 ", "noise: 3.0 ")):
        assert messages(smoke.planned()) == VOTING | RECORDING


def test_other_metrics_are_held_against_the_same_votes_of_that_study(smoke: Project) -> None:
    with smoke.edited(MICRO, lambda text: text.replace("metrics: [clip, clip_dir, ec2t]", "metrics: [clip, ec2t]")):
        planned = smoke.planned()
    judged = {job.split()[-1] for job in planned if job.startswith("Holding methods")}
    assert judged == {"text"} and messages(planned) <= JUDGING | RECORDING


def test_a_changed_exemplar_recipe_leaves_the_other_weights_alone(smoke: Project) -> None:
    with smoke.edited(MICRO, lambda text: text.replace("lpips_weight: 0.1", "lpips_weight: 0.2")):
        planned = smoke.planned()
    assert {job for job in planned if job.startswith("Training")} == {"Training editclip_ip2p"}
    assert not any("ip2p," in job and "editclip" not in job for job in planned if job.startswith("Editing"))
