"""Write the rows of a tree's `texts.jsonl` for a person or a model to fill: one for each edit type and each query.

Texts that the tree already has are kept. A row whose texts stay empty counts as no text; a query's row needs only what
differs from its type's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.data.tree import INSTRUCTIONS, TEXTS, Texts, scan
from editclip.errors import InputError

MODULE = "editclip.data.bench_texts"


def template(root: Path) -> Iterator[dict[str, Any]]:
    """Rows in the order of the tree; the origin of unfilled ones is "human".

    Raises:
        InputError: names everything that is wrong with the tree or its texts.
    """
    tree = scan(root, skip_incomplete=True)
    texts = Texts(tree)
    if tree.problems:
        raise InputError(f"the benchmark {root} has {len(tree.problems)} problems: " + "; ".join(tree.problems))
    for edit_type in tree.types:
        for query in ("", *(item.id for item in edit_type.queries)):
            row: dict[str, Any] = {"group": edit_type.group, "type": edit_type.name} | (
                {"query": query} if query else {}
            )
            given = texts.row(edit_type.group, edit_type.name, query)
            fields = {name: given.get(name, "") for name in TEXTS}
            fields |= {name: given[name] for name in (INSTRUCTIONS, "family") if name in given}
            yield {**row, **fields, "origin": given.get("origin", "human")}


def main() -> None:
    """Write the template."""
    parser = stage.parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="tree in TOP-Bench's layout")
    arguments = parser.parse_args()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in template(arguments.root)]
    facts = {"config": None, "inputs": {"root": arguments.root}, "force": arguments.force}
    with stage.output_file(arguments.out, module=MODULE, **facts) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
