"""Roles bound to names: which weights a training starts from, and which a method, a metric or a table speaks of."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from editclip.config.bench import WorldBench
from editclip.config.methods import MethodEntry
from editclip.config.resources import MethodRequest
from editclip.config.section import joined
from editclip.config.studies import Study
from editclip.config.weights import Bindings, HubWeights, LocalWeights, TrainedWeights, Weights
from editclip.data.families import MULTI, Families
from editclip.editing.cards import STAGES, Card, check_exemplars, effective_options, read_card
from editclip.errors import InputError, nearest
from editclip.packed import check_local
from editclip.recipes.kinds import read_kind

if TYPE_CHECKING:
    from editclip.config.tree import Config


def bound_weights(weights: Mapping[str, Weights]) -> dict[str, Weights]:
    """The entries with every role of their kind bound.

    Weights that are not trained here need what their kind starts from only where somebody asks for it, so a role of
    theirs stays open when nothing has its name.

    Raises:
        InputError: there is no such kind, or an entry binds a role that its kind has not.
    """
    result = {}
    for name, entry in weights.items():
        roles = read_kind(entry.kind).starts_from
        bindings = _bindings(f"weights.{name}.from", entry.starts_from, roles)
        if not isinstance(entry, TrainedWeights):
            bindings = {r: n for r, n in bindings.items() if n in weights or r in entry.starts_from}
        result[name] = entry.model_copy(update={"starts_from": bindings})
    for name in result:
        _refuse_circle(name, result)
    return result


def _refuse_circle(name: str, weights: Mapping[str, Weights]) -> None:
    """Raise an `InputError` when a set of weights starts, by whatever ways, from itself."""
    pending, ways = [name], {name: [name]}
    while pending:
        at = pending.pop()
        for start in weights[at].starts_from.values():
            if start == name:
                circle = " → ".join([*ways[at], name])
                raise InputError(f"config value weights.{name}.from: it starts from itself, {circle}")
            if start in weights and start not in ways:
                ways[start] = [*ways[at], start]
                pending.append(start)


def bound_methods(methods: Mapping[str, MethodEntry], weights: Mapping[str, Weights]) -> dict[str, MethodEntry]:
    """The entries with every role of their card bound and their options complete.

    Raises:
        InputError: there is no such editor, an entry binds a role that its card has not, an option is not its card's,
            a stage of its resources neither, or a shuffled control sees no exemplar.
    """
    result = {}
    for name, entry in methods.items():
        card, place = read_card(entry.editor), f"methods.{name}"
        check_exemplars(f"{place}.exemplars", card, entry.exemplars)
        _check_stages(f"{place}.resources", card, entry.resources)
        update = {
            "weights": _bindings(f"{place}.weights", entry.weights, [r for r in card.weights if "." not in r]),
            "options": effective_options(f"{place}.options", card, entry.options),
        }
        result[name] = entry.model_copy(update=update)
        weights_of(place, card, result[name], weights)
    return result


def _check_stages(place: str, card: Card, resources: MethodRequest | None) -> None:
    for stage in STAGES:
        if stage not in card.stages and getattr(resources, stage, None) is not None:
            stages = ", ".join(card.stages)
            raise InputError(
                f"config key {place}.{stage}: {card.label} has no such stage; its card's STAGES are {stages}"
            )


def _bindings(place: str, given: Bindings, roles: Iterable[str]) -> Bindings:
    roles = list(roles)
    for role in given:
        if role not in roles:
            raise InputError(
                f"config key {joined(place, [role])}: there is no such role{nearest(role, roles)}; "
                f"roles here: {', '.join(roles) or 'none'}"
            )
    return {role: given.get(role, role) for role in roles}


def weights_of(place: str, card: Card, entry: MethodEntry, weights: Mapping[str, Weights]) -> Bindings:
    """The name behind every role of a card; a dotted role follows what the weights before the dot started from.

    Args:
        place: of the method in the config, for messages.
        card: the method's card.
        entry: its entry, bound.
        weights: all entries of the config, bound.

    Raises:
        InputError: the config has no weights of a name that is asked for.
    """
    result = {}
    for role in card.weights:
        head, *steps = role.split(".")
        names = [entry.weights[head]]
        for step in steps:
            starts = weights[names[-1]].starts_from
            if step not in starts:
                raise InputError(
                    f'{place} needs to know from which "{step}" weights.{names[-1]} started; '
                    f"say it as weights.{names[-1]}.from.{step}"
                )
            names.append(starts[step])
        result[role] = _known(names[-1], place, weights)
    return result


def _known(name: str, who: str, weights: Mapping[str, Weights]) -> str:
    if name not in weights:
        known = ", ".join(weights) or "none"
        raise InputError(
            f'{who} needs the weights "{name}"{nearest(name, weights)}, which the config lacks; it has {known}'
        )
    return name


def check_names(config: "Config") -> None:
    """Check that every name that a section mentions is there.

    Args:
        config: with its entries bound.

    Raises:
        InputError: a table or a study names an unknown method, a study compares two that share no repetition, a row's
            trainings are no trainings of one method or one of them twice, a table is about edits that the world does
            not draw, retrieval lacks what it reads, or somebody needs weights that are not there.
    """
    if config.retrieval and not config.representation:
        raise InputError(
            "config value retrieval: it reads the features that representation measures, which is null; set "
            "representation, or retrieval to null"
        )
    for taken in {"table2", "table2_full", "claims"} & set(config.tables):
        raise InputError(f"config value tables.{taken}: results/{taken}.csv is another table; rename this one")
    for table, declared in config.tables.items():
        for row in declared.rows:
            if row not in declared.trainings:
                _known_method(row, f"tables.{table}.rows", config)
        for row, trainings in declared.trainings.items():
            _check_trainings(f"tables.{table}.trainings.{row}", row, trainings, config)
        if isinstance(config.bench, WorldBench) and MULTI in (declared.families or ()) and not config.bench.multi_edits:
            raise InputError(
                f'config value tables.{table}.families: "{MULTI}" is a family of which bench.multi_edits, 0, draws no '
                f"edit; set it to 1 or more, or tables.{table} to null"
            )
        if declared.study is not None:
            _check_votes(f"tables.{table}.study", declared.study, config)
        measured = config.representation
        encoders = [measured.encoder, *measured.clips] if measured else []
        for i, bar in enumerate(declared.representation or () if measured else ()):
            if bar.encoder not in encoders:
                raise InputError(
                    f'config value tables.{table}.representation[{i}].encoder: "{bar.encoder}" is not measured'
                    f"{nearest(bar.encoder, encoders)}; representation measures {', '.join(encoders)}"
                )
    for name, study in config.studies.items():
        _check_study(f"studies.{name}", study, config)
    rows = [row for declared in config.tables.values() for row in declared.trainings]
    for name, method in (config.claims.names if config.claims else {}).items():
        if method not in rows:
            _known_method(method, f"claims.names.{name}", config)
    needed_weights(config)
    for table, declared in config.tables.items():
        for row, trainings in declared.trainings.items():
            _refuse_copies(f"tables.{table}.trainings.{row}", trainings, config)


def _known_method(name: str, place: str, config: "Config") -> None:
    if name not in config.methods:
        raise InputError(
            f'config value {place}: there is no method "{name}"{nearest(name, config.methods)}; '
            f"known: {', '.join(config.methods)}"
        )


def _check_trainings(place: str, row: str, trainings: Sequence[str], config: "Config") -> None:
    """Refuse a row of methods that differ in more than their weights: their mean would be of no one method."""
    if row in config.methods:
        raise InputError(f'config key {place}: "{row}" is a method already; call the row by another name')
    for name in trainings:
        _known_method(name, place, config)
    first, *others = (config.methods[name] for name in trainings)
    for name, other in zip(trainings[1:], others, strict=True):
        for key in ("editor", "exemplars", "options", "seeds"):
            if getattr(first, key) != getattr(other, key):
                raise InputError(
                    f"config value {place}: {trainings[0]} and {name} differ in {key}, so that they are no two "
                    "trainings of one method; make them alike but for their weights"
                )


def _refuse_copies(place: str, trainings: Sequence[str], config: "Config") -> None:
    """Refuse a row of which two methods have the same weights: they would pass for two trainings and are one."""
    seen: dict[object, str] = {}
    for name in trainings:
        entry = config.methods[name]
        origins = {
            role: _origin(weights, config)
            for role, weights in weights_of(f"methods.{name}", read_card(entry.editor), entry, config.weights).items()
        }
        twin = seen.setdefault(json.dumps(origins, sort_keys=True), name)
        if twin != name:
            raise InputError(
                f"config value {place}: {twin} and {name} have the same weights, trained from the same seeds (run.seed "
                f"is {config.run.seed}), so that they are one training; give theirs different seeds"
            )


def _origin(name: str, config: "Config") -> dict[str, object]:
    """All that decides what weights come out as: two of one origin are the same."""
    entry = config.weights[name]
    if not isinstance(entry, TrainedWeights):
        return entry.model_dump(mode="json", exclude={"starts_from"})
    starts = {role: _origin(start, config) for role, start in entry.starts_from.items()}
    seed = config.run.seed if entry.seed is None else entry.seed
    return {"kind": entry.kind, "recipe": entry.recipe, "seed": seed, "starts_from": starts}


def _check_votes(place: str, name: str, config: "Config") -> None:
    if name not in config.studies:
        known = ", ".join(config.studies) or "none"
        raise InputError(
            f'config value {place}: there is no study "{name}"{nearest(name, config.studies)}; known: {known}'
        )
    if config.studies[name].origin.source == "none":
        raise InputError(f"config value {place}: nobody has voted in {name}; give studies.{name}.origin, or null here")


def _check_study(place: str, study: Study, config: "Config") -> None:
    for name in study.methods:
        _known_method(name, f"{place}.methods", config)
    pairs = study.compared
    if study.catch is not None:
        _known_method(study.catch.right, f"{place}.catch.right", config)
        _known_method(study.catch.wrong, f"{place}.catch.wrong", config)
        pairs.append((study.catch.right, study.catch.wrong))
    for first, second in pairs:
        seeds = [config.methods[name].seeds or config.run.seeds for name in (first, second)]
        if not set(seeds[0]) & set(seeds[1]):
            raise InputError(
                f"config value {place}: {first} has the seeds {seeds[0]} and {second} {seeds[1]}, so no repetition of "
                "the one can be shown beside one of the other; give both a common seed"
            )


def check_sources(config: "Config") -> None:
    """Check that all weights that a run needs can be had, as far as can be told before any job.

    Raises:
        InputError: some lie in no folder, are not the ones that are pinned, or were trained in another procedural
            world than this code's; or a hub would give them in no particular revision.
    """
    for name in needed_weights(config):
        entry = config.weights[name]
        if isinstance(entry, LocalWeights):
            check_local(name, entry)
        if isinstance(entry, HubWeights) and entry.revision is None and not config.run.allow_unpinned:
            raise InputError(
                f"config value weights.{name}.revision is null: pin {entry.repo} to a 40-character commit, "
                "or set run.allow_unpinned to true to take whatever the hub has today"
            )


def methods_of(config: "Config") -> list[str]:
    """The methods that edit: rows of some table, or shown in some study, in the order of the config."""
    wanted = {method for table in config.tables.values() for method in table.methods}
    wanted |= {name for study in config.studies.values() for name in study.shown}
    return [name for name in config.methods if name in wanted]


def families_of(config: "Config", method: str) -> list[Families]:
    """The parts of the bench that a method edits: what the tables that it is a row of, and its studies, are about."""
    parts: list[Families] = [table.families for table in config.tables.values() if method in table.methods]
    parts += [None for study in config.studies.values() if method in study.shown]
    named = sorted({name for part in parts for name in part or ()})
    return [None] * (None in parts) + ([named] if named else [])


def needed_weights(config: "Config") -> list[str]:
    """Names of all weights that the methods that edit, the metrics and what is measured of encoders need.

    Those that trainings start from are among them.

    Raises:
        InputError: the config has no weights of such a name.
    """
    weights: Mapping[str, Weights] = config.weights
    wanted: list[str] = []
    for method in methods_of(config):
        entry = config.methods[method]
        wanted += weights_of(f"methods.{method}", read_card(entry.editor), entry, weights).values()
    wanted += [
        _known(encoder, f"metrics.{family}.encoder", weights) for family, encoder in metric_encoders(config).items()
    ]
    if config.representation:
        names = [config.representation.encoder, *config.representation.clips]
        wanted += [_known(name, "representation", weights) for name in names]
    for encoder, measured in (config.attention or {}).items():
        wanted += [_known(encoder, "attention", weights), _known(measured.clip, f"attention.{encoder}.clip", weights)]
    return with_starts(wanted, weights)


def with_starts(names: Iterable[str], weights: Mapping[str, Weights]) -> list[str]:
    """Some weights and, of those that are trained, what they start from, and so on; each once.

    Raises:
        InputError: the config has no weights that a training starts from.
    """
    found = list(dict.fromkeys(names))
    for name in found:  # grows while it is gone through
        entry = weights[name]
        if isinstance(entry, TrainedWeights):
            starts = [_known(start, f"weights.{name}.from", weights) for start in entry.starts_from.values()]
            found += [start for start in dict.fromkeys(starts) if start not in found]
    return found


def metric_encoders(config: "Config") -> dict[str, str]:
    """Name of the encoder's weights by metric family, for those that have one."""
    sections = {name: getattr(config.metrics, name) for name in type(config.metrics).model_fields}
    return {name: section.encoder for name, section in sections.items() if hasattr(section, "encoder")}
