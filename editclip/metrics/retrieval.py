r"""Nearest pairs and instructions of edits, and a map of all edits, out of the features that `representation` keeps.

    python -m editclip.metrics.retrieval --triplets DIR --representation DIR --config JSON --statistics JSON --out DIR

This is beyond the paper, which names query-based retrieval of editing pairs as future work (section 5). Instructions
are looked up among those of the test split; none are written. --out gets

- summary.csv: precision at k (`editclip.metrics.ranking`) of every encoder, for each k up to `retrieval.nearest`, over
  the whole split (family "") and by family. The task `edits` looks for pairs of the query's own edit among all other
  pairs, `instructions` for wordings of its edit among all distinct ones. Differences of the first encoder from another
  are named `<first> - <other>`. Intervals resample edits, each with all its pairs.
- queries.csv, edits.csv, instructions.csv, images/<row>_{before,after}.png: queries chosen by rule, by what the first
  encoder finds at the largest k, with what is nearest to them; `right` is empty where nothing could be.
- map.csv: all pairs on a plane, by t-SNE of the first encoder's edits; retrieval.json: counts and settings.

Rows are numbers of pairs in the test split, from 0.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from editclip import stage
from editclip.config.metrics import Retrieval
from editclip.config.run import Statistics
from editclip.config.section import checked
from editclip.data.triplets import Split
from editclip.errors import InputError
from editclip.metrics.encoded import Encoded, Features, read_features
from editclip.metrics.ranking import Ranking, Values, Whole, bounded, chosen, others_ranked, precision, ranked
from editclip.storage import write_json

MODULE = "editclip.metrics.retrieval"
SUMMARY = ("encoder", "task", "family", "k", "estimate", "low", "high", "n", "chance")
QUERIES = ("query", "edit_id", "family", "instruction", "others")
EDITS = ("query", "rank", "row", "edit_id", "instruction", "cosine", "right")
INSTRUCTIONS = ("query", "rank", "text", "cosine", "right")
MAP = ("row", "edit_id", "family", "x", "y")
LARGEST = 256  # px of a picture's long side; larger ones are made smaller (ours)
SEED = 0  # of the map; it starts from principal components, and only their approximation draws numbers
FEWEST = 4  # pairs that a map is made of

Shares = Mapping[str, Mapping[str, tuple[Values, Values]]]  # `precision` by task and encoder


@dataclass(frozen=True)
class Pairs:
    """The test split.

    Attributes:
        names: of each pair's edit, N: its instruction where the data has no ids.
        families: of each pair's edit, N; "" where the data has none.
        instructions: of each pair, N.
        edits: number of each pair's edit, N.
        told: which of the distinct instructions is each pair's, N.
    """

    names: list[str]
    families: list[str]
    instructions: list[str]
    edits: Whole
    told: Whole


def read_pairs(split: Split, encoded: Encoded, source: Path) -> Pairs:
    """The pairs of a split whose features, `encoded`, were kept in the folder `source`.

    Raises:
        InputError: they are those of other triplets.
    """
    count = len(next(iter(encoded.encoders.values())).edits)
    texts, told = np.unique(np.asarray(split.edit_prompts), return_inverse=True)
    if len(split) != count or texts.tolist() != encoded.texts:
        raise InputError(
            f"{source} was measured on other triplets ({count} pairs, not these {len(split)}): run it again"
        )
    names = split.edit_ids or split.edit_prompts
    edits = np.unique(np.asarray(names), return_inverse=True)[1]
    return Pairs(names, split.families or [""] * count, split.edit_prompts, edits, told)


def rankings(found: Features, pairs: Pairs) -> dict[str, Ranking]:
    """What is nearest to each edit, by task: the other pairs, N×(N-1), and the distinct instructions, N×T."""
    wordings = np.zeros((pairs.edits.max() + 1, len(found.texts)), bool)
    wordings[pairs.edits, pairs.told] = True
    return {
        "edits": others_ranked(found.edits @ found.edits.T, pairs.edits[:, None] == pairs.edits),
        "instructions": ranked(found.edits @ found.texts.T, wordings[pairs.edits]),
    }


def summary(shares: Shares, pairs: Pairs, settings: Statistics) -> list[tuple[Any, ...]]:
    """Rows of summary.csv; the first encoder is compared with the others."""
    families, rows = np.asarray(pairs.families), []
    for task, of_encoders in shares.items():
        columns = {name: values for name, (values, _) in of_encoders.items()}
        first, *others = columns
        columns |= {f"{first} - {other}": columns[first] - columns[other] for other in others}
        chance = of_encoders[first][1]
        known = ~np.isnan(columns[first][:, 0])
        for family in ("", *sorted({*pairs.families} - {""})):
            counted = known & ((families == family) | (family == ""))
            if not counted.any():
                continue
            found = bounded(np.hstack([values[counted] for values in columns.values()]), pairs.edits[counted], settings)
            random = chance[counted].mean(axis=0)
            for i, name in enumerate(columns):
                least, expected = (0, random) if name in of_encoders else (-1, 0 * random)
                for k, by_chance in enumerate(expected):
                    mean, *bounds = (values[i * len(expected) + k] for values in found)
                    rows.append((name, task, family, k + 1, mean, *np.clip(bounds, least, 1), counted.sum(), by_chance))
    return rows


def nearest(ranking: Ranking, queries: Iterable[int], most: int) -> list[tuple[int, int, int, float, str]]:
    """Query, rank from 1, place, cosine and whether it is right, of the nearest places of some queries."""
    rows = []
    for query in queries:
        words = ("no", "yes") if ranking.right[query].any() else ("", "")
        for i in range(min(most, ranking.places.shape[1])):
            place, cosine, right = (part[query, i] for part in (ranking.places, ranking.cosines, ranking.right))
            rows.append((query, i + 1, int(place), float(cosine), words[int(right)]))
    return rows


def flat_map(edits: Values, perplexity: float) -> tuple[Values, float]:
    """Places of N edits on a plane, N×2, by t-SNE (van der Maaten and Hinton, JMLR 9:2579, 2008), and its perplexity.

    The perplexity is at most (N - 1) / 3, as in the authors' code. One thread computes it: sums that several share
    differ from run to run, and the map with them.

    Raises:
        InputError: the edits are too few.
    """
    if len(edits) < FEWEST:
        raise InputError(f"the test split has {len(edits)} pairs: give {FEWEST} or more for a map, or retrieval: null")
    used = min(perplexity, (len(edits) - 1) / 3)
    with threadpool_limits(1):
        method = TSNE(perplexity=used, init="pca", random_state=SEED, n_jobs=1)
        return np.asarray(method.fit_transform(edits.astype(np.float32)), float), used


def write_pictures(folder: Path, split: Split, rows: Iterable[int]) -> None:
    """Write `<row>_before.png` and `<row>_after.png` of some rows."""
    folder.mkdir()
    for row, *images in split.pictures(rows):
        for name, image in zip(("before", "after"), images, strict=True):
            image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
            image.save(folder / f"{row}_{name}.png")


def write_retrieval(folder: Path, split: Split, source: Path, config: Retrieval, settings: Statistics) -> None:
    """Fill `folder` with what the module says.

    Args:
        folder: an empty one.
        split: the test split.
        source: folder of its features.
        config: section `retrieval`.
        settings: of the bootstrap.

    Raises:
        InputError: the features are missing or of other triplets, or the pairs are too few.
    """
    encoded = read_features(source)
    pairs = read_pairs(split, encoded, source)
    found = {name: rankings(features, pairs) for name, features in encoded.encoders.items()}
    first = next(iter(found))
    shares = {
        task: {n: precision(r[task].right, min(config.nearest, r[task].right.shape[1])) for n, r in found.items()}
        for task in found[first]
    }
    queries = chosen(pairs.families, shares["edits"][first][0][:, -1], config.queries)
    others = np.bincount(pairs.edits)[pairs.edits] - 1
    similar = nearest(found[first]["edits"], queries, config.nearest)
    wordings = nearest(found[first]["instructions"], queries, config.nearest)
    places, perplexity = flat_map(encoded.encoders[first].edits, config.perplexity)
    names, families, told = pairs.names, pairs.families, pairs.instructions

    def write(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        frame = pd.DataFrame(rows, columns=list(columns))
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")

    write("summary", SUMMARY, summary(shares, pairs, settings))
    write("queries", QUERIES, [(query, names[query], families[query], told[query], others[query]) for query in queries])
    write("edits", EDITS, [(q, rank, i, names[i], told[i], *more) for q, rank, i, *more in similar])
    write("instructions", INSTRUCTIONS, [(q, rank, encoded.texts[i], *more) for q, rank, i, *more in wordings])
    write("map", MAP, [(i, names[i], families[i], *place) for i, place in enumerate(places)])
    write_pictures(folder / "images", split, [*queries, *(row for _, _, row, *_ in similar)])
    about = {"reference": first, "encoders": list(found), "pairs": len(names), "edits": len(set(names))}
    about |= {"alone": int((others == 0).sum()), "instructions": len(encoded.texts), "perplexity": perplexity}
    write_json(folder / "retrieval.json", about | {"scikit-learn": importlib.metadata.version("scikit-learn")})


def main() -> None:
    """Write what the module says."""
    parser = stage.parser(__doc__)
    parser.add_argument("--triplets", type=Path, required=True, help="folder of triplets; its test split is read")
    parser.add_argument("--representation", type=Path, required=True, help="folder with that split's features")
    parser.add_argument("--config", type=stage.config_value, required=True, help="config section `retrieval`")
    parser.add_argument("--statistics", type=stage.config_value, required=True, help="config section `statistics`")
    args = parser.parse_args()
    config = checked(Retrieval, args.config, "retrieval")
    settings = checked(Statistics, args.statistics, "statistics")
    inputs = {"triplets": args.triplets, "representation": args.representation}
    facts: dict[str, Any] = {"module": MODULE, "threads": args.threads, "force": args.force, "seed": SEED}
    facts |= {"config": {"retrieval": args.config, "statistics": args.statistics}}
    with stage.output_folder(args.out, inputs=inputs, **facts) as folder:
        write_retrieval(folder, Split(args.triplets, "test"), args.representation, config, settings)


if __name__ == "__main__":
    stage.run(main)
