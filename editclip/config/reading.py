"""Config files as written: YAML without duplicate keys, files and entries that are `like` another one, overlays.

A file, or an entry of one of its mappings, that says `like: NAME` is a copy of NAME changed by what it says itself:
mappings key by key, everything else, lists included, as a whole. A mapping that names another `source` than the one it
changes replaces it, because nothing of a training is true of a download.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from editclip.errors import InputError, nearest

LIKE, SOURCE = "like", "source"
WITH_LIKE = ("weights", "methods", "tables", "studies")  # the mappings name -> entry


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The content of a config file.

    Raises:
        InputError: it cannot be read, is no YAML mapping, or a key stands twice in one mapping (YAML's readers would
            silently take the last).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the config {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    for key, first, second in _repeated(node) if node else ():
        raise InputError(f'{path} line {second}: the key "{key}" stands there already, in line {first}; remove one')
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no config: it must be a mapping of keys to values")
    return content


def _repeated(node: yaml.Node) -> Iterator[tuple[str, int, int]]:
    """Keys that stand twice in one mapping below `node`, with both lines; merges (`<<`) may be overridden."""
    pending, visited = [node], set()
    while pending:
        node = pending.pop()
        if id(node) in visited:  # an alias is the node of its anchor
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in lines:
                    yield key.value, lines[key.value], line
                if isinstance(key.value, str):
                    lines[key.value] = line
                pending.append(value)


def read_whole(path: str | Path) -> dict[str, Any]:
    """The content of a config file upon that of the file it is like, which is named relative to its own folder.

    Raises:
        InputError: one of the files cannot be read (see `read_yaml`), or they are like each other in a circle.
    """
    chain, contents = [Path(path)], [read_yaml(path)]
    while LIKE in contents[-1]:
        base = chain[-1].parent / str(contents[-1].pop(LIKE))
        if base.resolve() in [file.resolve() for file in chain]:
            circle = " → ".join(map(str, [*chain, base]))
            raise InputError(f"{chain[-1]}: like: the files are like each other in a circle, {circle}")
        if not base.is_file():
            raise InputError(f"{chain[-1]}: like: there is no file {base}")
        chain.append(base)
        contents.append(read_yaml(base))
    return functools.reduce(merged, reversed(contents), {})


def merged(base: Any, change: Any) -> Any:
    """A copy of `base` changed by `change`; see above."""
    both = isinstance(base, Mapping) and isinstance(change, Mapping)
    if not both or change.get(SOURCE, base.get(SOURCE)) != base.get(SOURCE):
        return copy.deepcopy(change)
    return {
        key: merged(base.get(key), change[key]) if key in change else copy.deepcopy(base[key])
        for key in {**base, **change}
    }


def with_likes_resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with each entry that says `like: NAME` replaced by a copy of that entry, changed by what it says itself.

    An entry of null, which takes back one of the file that this one is like, is left out.

    Raises:
        InputError: there is no such entry, or the chain of `like` comes back to where it began.
    """
    result = dict(config)
    for section in WITH_LIKE:
        entries = config.get(section)
        if isinstance(entries, Mapping):
            kept = {name: entry for name, entry in entries.items() if entry is not None}
            result[section] = {name: _resolved(section, kept, [name]) for name in kept}
    return result


def _resolved(section: str, entries: Mapping[str, Any], chain: list[str]) -> Any:
    """The last entry of `chain`, whose members are like one another in this order."""
    entry = entries[chain[-1]]
    if not isinstance(entry, Mapping) or LIKE not in entry:
        return copy.deepcopy(entry)
    place, other = f"{section}.{chain[-1]}.like", entry[LIKE]
    if other not in entries:
        raise InputError(f"config value {place}: there is no {section} entry {other!r}{nearest(other, entries)}")
    if other in chain:
        circle = " → ".join([*chain, other])
        raise InputError(f"config value {place}: the entries are like each other in a circle, {circle}")
    return merged(_resolved(section, entries, [*chain, other]), {k: v for k, v in entry.items() if k != LIKE})
