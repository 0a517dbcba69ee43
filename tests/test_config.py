"""A wrong config key or value is one sentence: the key's path, the value, what is allowed, the nearest match."""

import copy
import functools
import json
import operator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from editclip.config import reference
from editclip.config.bindings import check_sources, families_of, methods_of, needed_weights, weights_of
from editclip.config.reading import merged, read_whole, read_yaml
from editclip.config.section import Count, Section
from editclip.config.tree import Config, checked_config, read_config
from editclip.editing.cards import read_card
from editclip.errors import InputError
from editclip.recipes.kinds import Kind
from editclip.recipes.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
WHOLE_CONFIGS = [path for path in CONFIGS if "ablations" not in path.stem]  # which are overlays


@functools.cache
def parsed(name: str) -> dict[str, Any]:
    return read_whole(ROOT / "config" / name)


def loaded(name: str = "foundations.yaml") -> dict[str, Any]:  # which trains everything
    return copy.deepcopy(parsed(name))


def refused(config: Any) -> str:
    """The sentence with which a config is refused."""
    with pytest.raises(InputError) as refusal:
        checked_config(config)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def ready(name: str, folder: Path) -> dict[str, Any]:
    """A shipped config as after its user has filled in what is the user's."""
    config = loaded(name)
    for entry in config["weights"].values():
        if entry.get("source") == "path":
            entry["path"] = str(folder)
    return merged(config, {"run": {"allow_unpinned": True}})


@pytest.mark.parametrize("path", WHOLE_CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_complete(path: Path, tmp_path: Path) -> None:
    config = checked_config(ready(path.name, tmp_path))
    assert all(row in config.methods for table in config.tables.values() for row in table.rows)


def test_the_shipped_configs_are_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in WHOLE_CONFIGS) <= 915


@pytest.mark.parametrize("base", ["micro", "smoke"])
def test_the_ablations_go_over_a_main_config(base: str) -> None:
    main, overlay = ROOT / f"config/{base}.yaml", ROOT / "config/ablations.yaml"
    plain, config = read_config(main), read_config(main, overlay)
    for section in ("weights", "methods", "tables"):  # nothing of the main run is changed
        kept = getattr(plain, section)
        assert kept == {name: getattr(config, section)[name] for name in kept}
    added = [config.tables[name] for name in config.tables if name not in plain.tables]
    rows = {row: trainings for table in added for row, trainings in table.trainings.items()}
    assert {row for table in added for row in table.rows} - set(rows) == set(config.tables["guidance"].rows)
    arms = [[config.weights[config.methods[name].weights["editclip_ip2p"]] for name in pair] for pair in rows.values()]
    for first, second in (map(operator.methodcaller("model_dump"), pair) for pair in arms):
        assert first["recipe"] == second["recipe"] and (first["seed"], second["seed"]) == (None, 1)
        encoders = [config.weights[entry["starts_from"]["encoder"]].model_dump() for entry in (first, second)]
        if first["recipe"]["condition"] == "edit":  # EditCLIP, trained here and so twice; the plain CLIP is given
            assert [encoder["seed"] for encoder in encoders] == [None, 1]
        else:
            assert encoders[0] == encoders[1]
    assert len({entry.model_dump()["recipe"]["steps"] for pair in arms for entry in pair}) == 1
    large, small = (config.weights[f"clip_{size}_patches"].model_dump() for size in ("large", "small"))
    assert small["recipe"]["vision"].pop("patch_size") * 2 == large["recipe"]["vision"].pop("patch_size")
    assert small == large


def test_two_trainings_from_one_seed_are_not_taken_for_two() -> None:
    with pytest.raises(InputError) as refusal:
        read_config(ROOT / "config/micro.yaml", ROOT / "config/ablations.yaml", change={"run": {"seed": 1}})
    for part in ("tables.conditioning.trainings.ablated", "ablated-1 and ablated-2", "run.seed is 1"):
        assert part in str(refusal.value)


def test_the_ablations_go_over_the_papers_training_too() -> None:
    names = ("paper-train", "ablations", "ablations-paper")
    config = read_config(*(ROOT / f"config/{name}.yaml" for name in names), change={"run": {"allow_unpinned": True}})
    trained = {name for name in needed_weights(config) if config.weights[name].source == "train"}
    assert not {name for name in trained if "_patches" in name} and "editclip_b32_2" in trained
    steps = {name: config.weights[name].model_dump()["recipe"]["steps"] for name in trained}
    encoders = {"editclip", "editclip_again", "editclip_b32_1", "editclip_b32_2"}
    assert {name for name in steps if steps[name] != 20000} == encoders
    assert config.claims and "EditCLIP (small patches)" not in config.claims.names


def keys(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*place, k), *keys(v, (*place, k))]]
    return []


def at(config: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        config = config[part]
    return config


# A method's options are checked against its card; a network takes its class's arguments; names are free; a role that is
# not bound means the name of the same spelling, and a resource that an entry doesn't name is asked for as by all.
FREE = {"options", "model", "unet", "vision", "text", "from", "weights", "resources"}
# A training has the run's seed unless it says another, most rows are one method, a table is about all families but one.
OPTIONAL = {("weights", "seed"), ("tables", "trainings"), ("tables", "families")}
STUDY = {
    "methods": ["editclip", "ip2p", "visii"], "pairs": "first", "seeds": 2, "items": None, "votes": 3,
    "catch": {"share": 0.05, "right": "ground_truth", "wrong": "copy_query"},
    "exclude": {"catch_right": 0.75, "median_seconds": 2.0}, "metrics": ["s_visual", "ec2ec"],
    "origin": {"source": "oracle", "raters": 12, "noise": 1.0, "lapse": 0.05},
}  # fmt: skip
WHOLE = checked_config(merged(loaded(), {"studies": {"exemplar": STUDY}})).model_dump(mode="json", by_alias=True)
NAMED = ("weights", "methods", "tables", "studies", "attention")
PLACES = [
    k for k in keys(WHOLE)
    if not FREE & set(k[1:]) and not (len(k) == 2 and k[0] in NAMED) and k[:2] + k[3:] != ("claims", "names")
    and k[:1] + k[2:] not in OPTIONAL
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_missing_or_misspelt_key_is_named(place: tuple[Any, ...]) -> None:
    config = copy.deepcopy(WHOLE)
    value = at(config, place[:-1]).pop(place[-1])
    said = refused(config)
    assert ".".join(map(str, place)) in said and "missing" in said
    wrong = copy.deepcopy(config)
    at(wrong, place[:-1])[f"{place[-1]}x"] = value
    at(wrong, place[:-1])[place[-1]] = value
    said = refused(wrong)
    assert ".".join(map(str, place)) + "x" in said and f'did you mean "{place[-1]}"' in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bench": {"source": "wrld"}}, ["bench.source", "'wrld'", 'did you mean "world"', "path"]),
        ({"run": {"seeds": 3}}, ["run.seeds", "3", "list"]),
        ({"run": {"seeds": [0.0]}}, ["run.seeds[0]", "0.0"]),
        ({"run": {"seeds": [1, 1]}}, ["run.seeds", "1 stands in it more than once"]),
        ({"run": {"seed": -1}}, ["run.seed", "-1"]),
        ({"run": {"seed": 10**40}}, ["run.seed"]),
        ({"run": {"seed": True}}, ["run.seed", "True"]),
        ({"metrics": {"lpips": {"trunk": "imagnet"}}}, ["metrics.lpips.trunk", 'did you mean "imagenet"']),
        ({"metrics": {"lpips": {"nets": ["vgg"]}}}, ["metrics.lpips.nets", "alex must be among them"]),
        ({"metrics": {"clip": {"encoder": "clp"}}}, ["metrics.clip.encoder", '"clp"', 'did you mean "clip"']),
        ({"statistics": {"level": float("nan")}}, ["statistics.level", "nan", "finite"]),
        ({"methods": {"ip2p": {"exemplars": "shufled"}}}, ["methods.ip2p.exemplars", 'did you mean "shuffled"']),
        ({"methods": {"ip2p": {"batch_size": 0}}}, ["methods.ip2p.batch_size", "0"]),
        ({"methods": {"ip2p": {"shards": 2.0}}}, ["methods.ip2p.shards", "2.0"]),
        ({"methods": {"ip2p": {"editor": "baselines.ipp2"}}}, ["baselines.ipp2", 'did you mean "baselines.ip2p"']),
        ({"methods": {"ip2p": {"exemplars": "shuffled"}}}, ["methods.ip2p.exemplars", "sees no exemplar"]),
        ({"methods": {"ip2p": {"weights": {"ip2q": "ip2p"}}}}, ["methods.ip2p.weights.ip2q", 'did you mean "ip2p"']),
        ({"methods": {"ip2p": {"weights": {"ip2p": "ipp"}}}}, ["methods.ip2p", '"ipp"', 'did you mean "ip2p"']),
        ({"methods": {"ip2p": {"options": {"guidance_scal": 1}}}}, ["ip2p.options.guidance_scal", "guidance_scale"]),
        ({"methods": {"ip2p": {"options": {"guidance_scale": "x"}}}}, ["methods.ip2p.options.guidance_scale", "'x'"]),
        ({"methods": {"ip2p": {"options": {"guidance_scale": float("nan")}}}}, ["options.guidance_scale", "nan"]),
        ({"weights": {"editclip": {"seed": -1}}}, ["weights.editclip.seed", "-1"]),
        ({"tables": {"table1": {"trainings": {"twice": ["ip2p"]}}}}, ["tables.table1.trainings.twice", "2"]),
        (
            {"tables": {"table1": {"trainings": {"twice": ["ip2p", "visii"]}}}},
            ["tables.table1", 'trainings has "twice"', "no row of the table"],
        ),
        (
            {"tables": {"table1": {"rows": ["twice", "editclip", "copy_query"], "bars": [],
                                   "trainings": {"twice": ["editclip", "shuffled-editclip"]}}}},
            ["tables.table1", "editclip is a row and a training", "leave one out"],
        ),
        (
            {"tables": {"table1": {"rows": ["visii", "editclip"], "bars": [],
                                   "trainings": {"visii": ["ip2p", "copy_query"]}}}},
            ["tables.table1.trainings.visii", '"visii" is a method already'],
        ),
        (
            {"tables": {"table1": {"rows": ["twice", "editclip"], "bars": [],
                                   "trainings": {"twice": ["visii", "visi"]}}}},
            ["tables.table1.trainings.twice", '"visi"', 'did you mean "visii"'],
        ),
        (
            {"tables": {"table1": {"rows": ["twice", "editclip"], "bars": [],
                                   "trainings": {"twice": ["visii", "shuffled-visii"]}}}},
            ["tables.table1.trainings.twice", "visii and shuffled-visii differ in exemplars"],
        ),
        (
            {"tables": {"table1": {"rows": ["once", "twice", "editclip"], "bars": [],
                                   "trainings": {"once": ["visii", "ip2p"], "twice": ["ip2p", "copy_query"]}}}},
            ["tables.table1", 'ip2p is a training of two rows, "once" and "twice"'],
        ),
        (
            {"bench": {"multi_edits": 0}, "tables": {"table1": {"families": ["multi"]}}},
            ["tables.table1.families", '"multi"', "bench.multi_edits, 0", "tables.table1 to null"],
        ),
        ({"methods": {"ip2p": {"resources": {"prepar": {}}}}}, ["methods.ip2p.resources.prepar", '"prepare"']),
        ({"methods": {"visii": {"resources": {"edit": {"gpu": 1}}}}}, ["visii.resources.edit.gpu", '"gpus"']),
        (
            {"methods": {"ip2p": {"resources": {"plan": {"minutes": 9}}}}},
            ["config key methods.ip2p.resources.plan", "InstructPix2Pix has no such stage", "STAGES are edit"],
        ),
        ({"methods": {"..": WHOLE["methods"]["ip2p"]}}, ["methods", ".."]),
        ({"weights": {"clip": {"recipe": {"steps": -5}}}}, ["weights.clip.recipe.steps", "-5"]),
        ({"weights": {"ip2p": {"recipe": {"condition_dropout": 5}}}}, ["weights.ip2p.recipe.condition_dropout", "5"]),
        ({"weights": {"vae": {"recipe": {"learning_rate": float("inf")}}}}, ["vae.recipe.learning_rate", "inf"]),
        ({"weights": {"clip": {"source": "trian"}}}, ["weights.clip.source", 'did you mean "train"']),
        ({"weights": {"clip": {"kind": "editclip.recipes.clipp"}}}, ["editclip.recipes.clipp", "did you mean"]),
        ({"weights": {"ip2p": {"from": {"text_to_imag": "vae"}}}}, ["weights.ip2p.from.text_to_imag", "text_to_image"]),
        ({"weights": {"ip2p": {"from": {"text_to_image": "vea"}}}}, ["weights.ip2p.from", '"vea"', '"vae"?']),
        (
            {"weights": {"text_to_image": {"from": {"vae": "ip2p"}}}},
            ["weights.ip2p.from", "starts from itself", "ip2p → text_to_image → ip2p"],
        ),
        (
            {"tables": {"table1": {"rows": ["ip2p", "editclip", "editclp", "round_trip"]}}},
            ["tables.table1.rows", '"editclp"', '"editclip"?'],
        ),
        ({"methods": {"a": {"like": "ip2q"}}}, ["methods.a.like", "'ip2q'", 'did you mean "ip2p"']),
        (
            {"methods": {"a": {"like": "b"}, "b": {"like": "c"}, "c": {"like": "a"}}},
            ["methods.", ".like", "circle", "a → b → c → a"],
        ),
        ({"weights": {"a": {"like": "a"}}}, ["weights.a.like", "circle", "a → a"]),
        ({"studies": {"exemplar": {"methods": ["editclip"]}}}, ["studies.exemplar.methods", "at least 2"]),
        ({"studies": {"exemplar": {"methods": ["ip2p"] * 2}}}, ["studies.exemplar.methods", "ip2p stands in it more"]),
        ({"studies": {"exemplar": {"methods": ["editclp", "ip2p"]}}}, ["studies.exemplar.methods", '"editclip"?']),
        ({"studies": {"exemplar": {"pairs": "frist"}}}, ["studies.exemplar.pairs", "'frist'", '"first"?', "all"]),
        ({"studies": {"exemplar": {"metrics": []}}}, ["studies.exemplar.metrics", "at least 1"]),
        ({"studies": {"exemplar": {"seeds": 0}}}, ["studies.exemplar.seeds", "0"]),
        ({"studies": {"exemplar": {"items": 0}}}, ["studies.exemplar.items", "0"]),
        ({"studies": {"exemplar": {"votes": 1.5}}}, ["studies.exemplar.votes", "1.5"]),
        ({"studies": {"exemplar": {"catch": {"share": 0}}}}, ["studies.exemplar.catch.share", "0"]),
        ({"studies": {"exemplar": {"catch": {"share": 0.6}}}}, ["studies.exemplar.catch.share", "0.6"]),
        ({"studies": {"exemplar": {"catch": {"right": "truth"}}}}, ["exemplar.catch.right", '"ground_truth"?']),
        ({"studies": {"exemplar": {"catch": {"wrong": "copy_qery"}}}}, ["exemplar.catch.wrong", '"copy_query"?']),
        ({"studies": {"exemplar": {"catch": {"wrong": "ground_truth"}}}}, ["studies.exemplar.catch", "both"]),
        ({"studies": {"exemplar": {"exclude": {"catch_right": 75}}}}, ["exemplar.exclude.catch_right", "75"]),
        ({"studies": {"exemplar": {"exclude": {"median_seconds": -1}}}}, ["exclude.median_seconds", "-1"]),
        ({"studies": {"exemplar": {"origin": {"source": "orcle"}}}}, ["exemplar.origin.source", '"oracle"?', "none"]),
        ({"studies": {"exemplar": {"origin": {"raters": 2}}}}, ["studies.exemplar", "raters 2", "3 votes"]),
        ({"studies": {"exemplar": {"origin": {"noise": -1}}}}, ["studies.exemplar.origin.noise", "-1"]),
        ({"studies": {"exemplar": {"origin": {"lapse": 2}}}}, ["studies.exemplar.origin.lapse", "2"]),
        ({"studies": {"exemplar": {"origin": {"source": "path"}}}}, ["studies.exemplar.origin.path", "missing"]),
        *(
            ({"tables": {taken: {"like": "table1"}}}, [f"tables.{taken}", f"results/{taken}.csv", "rename this one"])
            for taken in ("table2", "table2_full", "claims")
        ),
        ({"tables": {"table1": {"study": "exemplr"}}}, ["tables.table1.study", '"exemplr"', 'did you mean "exemplar"']),
        ({"studies": {"exemplar": {"origin": {"source": "none"}}}}, ["tables.table1.study", "nobody has voted"]),
        ({"studies": {"b": {"like": "exemplr"}}}, ["studies.b.like", "'exemplr'", 'did you mean "exemplar"']),
        (
            {"methods": {"ip2p": {"seeds": [7]}}},
            ["studies.text: ip2p has the seeds [7] and ledits-pp [0, 1]", "give both a common seed"],
        ),
        ({"attention": {"editclp": {"clip": "clip"}}}, ["attention needs", '"editclp"', 'did you mean "editclip"']),
        ({"attention": {"editclip": {"clip": "clp"}}}, ["attention.editclip.clip", '"clp"', 'did you mean "clip"']),
        ({"attention": {"..": {"clip": "clip"}}}, ["attention", ".."]),
        ({"methods": {"ip2p": 3}}, ["methods.ip2p", "3"]),
        ({"representation": None}, ["config value retrieval", "representation measures, which is null"]),
        ({"retrieval": {"queries": 0}}, ["retrieval.queries", "0"]),
        ({"retrieval": {"perplexity": 0.5}}, ["retrieval.perplexity", "0.5"]),
        ({"run": None}, ["run", "None"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_says_where_and_what_is_allowed(change: dict[str, Any], expected: list[str]) -> None:
    said = refused(merged(WHOLE, change))
    assert all(part in said for part in expected), said


def test_a_number_without_a_dot_is_a_number() -> None:
    change = yaml.safe_load(
        "{weights: {vae: {recipe: {learning_rate: 2e-3}}}, methods: {ip2p: {options: {guidance_scale: 1e0}}}}"
    )
    config = checked_config(merged(WHOLE, change))
    assert config.weights["vae"].recipe["learning_rate"] == 0.002  # type: ignore[union-attr]
    assert config.methods["ip2p"].options["guidance_scale"] == 1.0


def test_an_entry_is_like_another_but_for_what_it_says() -> None:
    config = checked_config(loaded())
    maps, edits = (config.weights[name].model_dump() for name in ("prompt_diffusion", "prompt_diffusion_edits"))
    assert (maps["recipe"].pop("tasks"), edits["recipe"].pop("tasks")) == ("maps", "edits") and maps == edits
    own, shuffled = (config.methods[name].model_dump() for name in ("editclip", "shuffled-editclip"))
    assert {k for k in own if own[k] != shuffled[k]} == {"exemplars", "seeds"}
    assert own["editor"] == "editclip.method" and own["options"]["num_inference_steps"] == 10


def test_another_source_leaves_nothing_of_the_old_one() -> None:
    base = {"clip": {"source": "train", "recipe": {"steps": 1}}, "run": {"seeds": [1, 2], "name": "a"}}
    change = {"clip": {"source": "path", "path": "x"}, "run": {"seeds": [3]}}
    assert merged(base, change) == {"clip": change["clip"], "run": {"seeds": [3], "name": "a"}}
    assert base["run"]["seeds"] == [1, 2]


def test_an_overlay_adds_and_changes_entries(tmp_path: Path) -> None:
    overlay = tmp_path / "ablation.yaml"
    overlay.write_text("weights: {lambda_0: {like: editclip_ip2p, recipe: {lpips_weight: 0}}}\n"
                       "methods: {lambda_0: {like: editclip, seeds: [0], weights: {editclip_ip2p: lambda_0}}}\n"
                       "tables: {ablations: {like: table1, rows: [editclip, lambda_0], bars: []}}\n")  # fmt: skip
    plain, config = read_config(ROOT / "config/micro.yaml"), read_config(ROOT / "config/micro.yaml", overlay)
    assert set(config.weights) - set(plain.weights) == {"lambda_0"}
    assert {**config.weights["lambda_0"].model_dump()["recipe"], "lpips_weight": 0.1} == (
        plain.weights["editclip_ip2p"].model_dump()["recipe"]
    )
    card = read_card("editclip.method")
    bound = weights_of("methods.lambda_0", card, config.methods["lambda_0"], config.weights)
    assert bound == {"editclip_ip2p": "lambda_0", "editclip_ip2p.encoder": "editclip", "editclip_ip2p.ip2p": "ip2p"}
    assert set(needed_weights(config)) == {*needed_weights(plain), "lambda_0"}


def test_encoders_whose_attention_is_measured_are_needed() -> None:
    change = {"weights": {"other": {"like": "editclip"}}, "attention": {"other": {"clip": "clip_matched"}}}
    bare = merged(loaded(), {"tables": {"table1": {"representation": None}}, "representation": None, "retrieval": None})
    without, config = (checked_config(merged(bare, changed)) for changed in ({}, change))
    assert list(config.attention or ()) == ["editclip", "other"], "an overlay adds one"
    assert set(needed_weights(config)) - set(needed_weights(without)) == {"other", "clip_matched"}
    assert set(needed_weights(checked_config(merged(bare, {"attention": None})))) == set(needed_weights(without))


def test_a_study_needs_its_methods_even_if_they_are_rows_of_no_table() -> None:
    rows = {"table1": {"rows": ["copy_query"], "reference": None, "bars": [], "study": None}, "multi_edit": None}
    without_more = {"tables": rows, "claims": None, "representation": None, "attention": None, "retrieval": None}
    bare = merged(loaded() | {"studies": {}}, without_more)
    trials = {"share": 0.1, "right": "ground_truth", "wrong": "shuffled-editclip"}
    study = {**STUDY, "methods": ["ip2p", "copy_query"], "catch": trials, "origin": {"source": "none"}}
    without, config = (checked_config(merged(bare, {"studies": studies})) for studies in ({}, {"own": study}))
    assert methods_of(without) == config.tables["table1"].rows == ["copy_query"]
    assert methods_of(config) == ["ip2p", "shuffled-editclip", "copy_query", "ground_truth"]
    assert "editclip_ip2p" in needed_weights(config) and "editclip_ip2p" not in needed_weights(without)


def test_a_method_edits_what_its_tables_and_studies_are_about() -> None:
    tables = {"own": {"like": "multi_edit", "rows": ["visii", "ip2p-turn-by-turn"], "reference": None}}
    config = checked_config(merged(loaded(), {"tables": tables | {"more": {"like": "own", "families": ["style"]}}}))
    found = {name: families_of(config, name) for name in methods_of(config)}
    assert found["shuffled-visii"] == [None], "single edits are not made longer by those of several parts"
    assert found["ip2p"] == [None, ["compound", "multi"]] and found["ledits-pp"] == [None]  # in a study alone
    assert found["ip2p-turn-by-turn"] == [["compound", "multi", "style"]]
    assert found["visii"] == [None, ["compound", "multi", "style"]]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("first", [("editclip", "ip2p"), ("editclip", "visii")]),
        ("all", [("editclip", "ip2p"), ("editclip", "visii"), ("ip2p", "visii")]),
    ],
)
def test_a_study_compares_in_the_order_of_its_methods(pairs: str, expected: list[tuple[str, str]]) -> None:
    study = checked_config(merged(WHOLE, {"studies": {"exemplar": {"pairs": pairs}}})).studies["exemplar"]
    assert study.compared == study.design.compared == expected
    assert study.shown == ["editclip", "ip2p", "visii", "ground_truth", "copy_query"]


def test_another_origin_of_votes_leaves_the_design_as_it_is() -> None:
    change = {"studies": {"exemplar": {"origin": {"source": "path", "path": "votes.csv"}, "metrics": ["clip_dir"]}}}
    before, after = (checked_config(config).studies["exemplar"] for config in (WHOLE, merged(WHOLE, change)))
    assert before.design == after.design and before.origin != after.origin


def test_an_overlay_that_breaks_a_config_is_named_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("run: {seeds: many}\n")
    with pytest.raises(InputError, match="config value run.seeds: 'many'"):
        read_config(ROOT / "config/micro.yaml", tmp_path / "broken.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run:\n  seed: 1\n  seed: 2\n", ["line 3", '"seed"', "line 2"]),
        ("run: {seed: 1}\nmethods: {}\nrun: {seed: 2}\n", ["line 3", '"run"', "line 1"]),
        ("run:\n  - [\n", ["line", "not valid YAML"]),
        ("- 1\n", ["mapping"]),
        ("", ["mapping"]),
        ("like: nowhere.yaml\n", ["like", "nowhere.yaml"]),
        ("like: config.yaml\n", ["like", "circle"]),
    ],
)
def test_a_file_that_says_something_twice_or_nothing_is_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refusal:
        read_whole(path)
    assert str(path) in str(refusal.value) and all(part in str(refusal.value) for part in expected), refusal.value


@pytest.mark.parametrize("content", [None, b"run: \xff\n"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"cannot read the config {path}"):
        read_yaml(path)


def test_merge_keys_may_be_overridden() -> None:
    config = read_yaml(ROOT / "config/foundations.yaml")
    vae, unet = (config["weights"][name]["recipe"] for name in ("vae", "text_to_image"))
    assert vae["ema_decay"] is None and unet["ema_decay"] == 0.999 and vae["schedule"] == unet["schedule"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"source": "path", "path": "nowhere", "sha256": None}, "weights.ip2p.path: nowhere is not a folder"),
        ({"source": "hub", "repo": "a/b", "revision": None, "sha256": None}, "pin a/b to a 40-character commit"),
    ],
)
def test_weights_that_cannot_be_had_stop_before_any_job(source: dict[str, Any], expected: str) -> None:
    change = {"weights": {"ip2p": {"kind": "editclip.recipes.ip2p", **source}}}
    config = checked_config(merged(WHOLE, change))
    with pytest.raises(InputError, match=expected):
        check_sources(config)
    rows = {"rows": ["copy_query"], "reference": None, "bars": [], "study": None}
    unneeded = {"tables": {"table1": rows, "multi_edit": None}, "claims": None, "representation": None}
    unneeded |= {"attention": None, "retrieval": None}
    check_sources(checked_config(merged(merged(WHOLE, change) | {"studies": {}}, unneeded)))
    if source["source"] == "hub":
        check_sources(checked_config(merged(merged(WHOLE, change), {"run": {"allow_unpinned": True}})))


def test_a_config_cannot_be_changed_once_it_is_checked() -> None:
    config = checked_config(loaded())
    assert isinstance(config, Config)
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 3


def test_the_schema_and_the_page_are_those_of_the_models() -> None:
    assert json.loads((ROOT / "config/schema.json").read_text(encoding="utf-8")) == reference.schema()
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference.page()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_schema_accepts_every_shipped_config_and_no_misspelt_key(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(reference.schema())
    config = read_yaml(path)
    assert not list(validator.iter_errors(config))
    for wrong in ({"rum": {}}, {"weights": {"clip": {"kind": "editclip.recipes.clip", "recipe": {"stebs": 1}}}}):
        assert list(validator.iter_errors(merged(config, wrong))), wrong


class Blocks(Section):
    """Sizes of the blocks."""

    heads: Count
    """attention heads"""


class Sizes(Section):
    """Sizes of a tower."""

    width: Count
    """of its tokens"""
    blocks: Blocks
    """what it is made of"""


class TowersRecipe(Recipe):
    """Recipe of two towers."""

    vision: Sizes
    """of the images"""
    text: Sizes | None
    """of the texts; null = none"""


def one_tower() -> type[Recipe]:
    """Another method's recipe, which has a section of the same name."""

    class Sizes(Section):
        """Sizes of the only tower."""

        depth: Count
        """layers"""

    class TowerRecipe(Recipe):
        """Recipe of a tower."""

        vision: Sizes
        """of the images"""

    return TowerRecipe


@pytest.fixture
def nested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of weights whose recipes have sections within them."""
    recipes = {"baselines.one.recipe": one_tower(), "baselines.two.recipe": TowersRecipe}
    monkeypatch.setattr(reference, "kind_names", lambda: list(recipes))
    monkeypatch.setattr(reference, "read_kind", lambda name: Kind(name, "train", (), "m:f", "nats", recipes[name]))


def references(value: Any) -> set[str]:
    """All targets of a schema's `$ref`."""
    if isinstance(value, list):
        return {target for item in value for target in references(item)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own | {target for item in value.values() for target in references(item)}


@pytest.mark.parametrize(
    ("kind", "recipe", "accepted"),
    [
        ("one", {"vision": {"depth": 2}}, True),
        ("one", {"vision": {"width": 2}}, False),
        ("two", {"vision": {"width": 2, "blocks": {"heads": 4}}, "text": None}, True),
        ("two", {"text": {"blocks": {"heads": 4}}}, True),
        ("two", {"vision": {"depth": 2}}, False),
        ("two", {"vision": {"width": 0}}, False),
        ("two", {"text": {"blocks": {"head": 4}}}, False),
    ],
    ids=str,
)
@pytest.mark.usefixtures("nested")
def test_the_schema_knows_the_sections_within_a_recipe(kind: str, recipe: dict[str, Any], accepted: bool) -> None:
    schema = reference.schema()
    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}
    entry = {"kind": f"baselines.{kind}.recipe", "source": "train", "recipe": recipe}
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors({"weights": {"tower": entry}}))
    assert (not errors) == accepted, errors


@pytest.mark.usefixtures("nested")
def test_the_page_lists_the_sections_within_a_recipe() -> None:
    one, two = reference.page().split("### `baselines.one.recipe`")[1].split("### `baselines.two.recipe`")
    assert "| `vision` | a section | of the images |" in two and "| `text` | a section or `null` |" in two
    places = [line for line in two.splitlines() if line.startswith("#### ")]
    assert places == ["#### `vision`", "#### `vision.blocks`", "#### `text`", "#### `text.blocks`"]
    assert "#### `vision`\n\nSizes of a tower.\n\n| key | value | meaning |\n" in two
    assert "| `width` | whole number ≥ 1 | of its tokens |\n| `blocks` | a section | what it is made of |\n\n" in two
    assert "| `heads` | whole number ≥ 1 | attention heads |" in two and "depth" not in two
    assert "#### `vision`\n\nSizes of the only tower.\n\n" in one and "| `depth` |" in one
