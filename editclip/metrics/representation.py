r"""How well a representation tells edits apart, on pairs that no model and no tuning has seen.

    python -m editclip.metrics.representation --triplets DIR --encoders NAME=FOLDER … --statistics JSON --out DIR

Of every encoder, with edits E (EditCLIP's feature, or plain CLIP's difference of the two images' features at length 1,
paper eq. 13) and instructions T (its own text tower):

- `retrieval_edit`, `retrieval_wording`: share of edits whose nearest instruction, of all distinct ones, is one of their
  edit's wordings, or the very wording of the pair (recall at 1)
- `same_edit_auc`: probability that two pairs of one edit are nearer (cosine) than two pairs of different edits; this is
  EC2EC for EditCLIP and S_visual for plain CLIP
- `instruction_cosine`: largest cosine between the instructions of two different edits (no interval: it is a maximum)
- `core_minutes`, `gpu_minutes`: what its own training took, where it was trained here (what it started from took more)

Intervals resample the edits, each with all its pairs. Encoders share the draws, so that their difference has one too.

--out gets representation.csv and the features themselves (`editclip.metrics.encoded`), from which others go on without
encoding anything again.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from tqdm import tqdm

from editclip import stage
from editclip.config.run import Statistics
from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.metrics.encoded import Features, write_features
from editclip.model import Clip, EditCLIP
from editclip.stats import draws, interval

COLUMNS = ("encoder", "measure", "estimate", "low", "high", "n", "chance")
BATCH = 64
WEIGHED = 5_000_000  # pairs of edits, times draws, that are held in memory at once (ours)
Values = NDArray[np.float64]


def features(name: str, encoder: Clip | EditCLIP, triplets: Triplets, texts: Sequence[str]) -> Features:
    """Encode all pairs of `triplets`, which are of the encoder's side, and `texts`; `name` is for the progress bar."""
    edits = []
    for rows in tqdm(torch.arange(len(triplets)).split(BATCH), desc=name, unit="batch"):
        before, after = triplets.batch(rows.tolist())
        if isinstance(encoder, EditCLIP):
            edits.append(encoder.encode_edit(before, after).cpu())
        else:
            edits.append((encoder.encode_image(after) - encoder.encode_image(before)).cpu())
    told = torch.cat([encoder.encode_text(texts[i : i + BATCH]).cpu() for i in range(0, len(texts), BATCH)])
    return Features(normalize(torch.cat(edits).double(), dim=-1).numpy(), normalize(told.double(), dim=-1).numpy())


def recalled(scores: Values, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows of `scores` (N×T) are highest at a `right` place (N×T); a tie with a wrong one is a miss."""
    return np.where(right, scores, -np.inf).max(1) > np.where(right, -np.inf, scores).max(1)


def weighted_auc(scores: Values, edits: NDArray[np.int64], weights: Values) -> Values:
    """Area under the curve of same-edit against different-edit pairs of rows, for each row of weights.

    How often each edit's pairs beat those of each two edits is counted once, so that a draw costs a few sums.

    Args:
        scores: symmetric N×N similarities.
        edits: number of each row's edit, N.
        weights: B×E, how often each edit counts. Two rows of one edit weigh as often as it occurs (copies of an edit
            are not compared with each other), rows of two edits the product.

    Returns:
        B areas, ties counting half; NaN where either kind of pair has no weight.
    """
    first, second = np.triu_indices(len(edits), 1)
    values, a, b = scores[first, second], edits[first], edits[second]
    same = a == b
    paired, own = np.unique(a[same], return_inverse=True)  # the edits with two rows or more
    codes = np.minimum(a, b)[~same] * weights.shape[1] + np.maximum(a, b)[~same]
    order = np.argsort(values[~same], kind="stable")
    twos, of_two = np.unique(codes[order], return_inverse=True)
    wins = _wins(values[same], own, values[~same][order], of_two)
    left, right = np.divmod(twos, weights.shape[1])
    alike, unlike = np.bincount(own), np.bincount(of_two)
    areas = np.full(len(weights), np.nan)
    size = max(1, WEIGHED // max(1, len(twos)))
    for start in range(0, len(weights), size):
        weight = weights[start : start + size]
        of_twos, of_paired = weight[:, left] * weight[:, right], weight[:, paired]
        total = (of_paired @ alike) * (of_twos @ unlike)
        won = ((of_twos @ wins.T) * of_paired).sum(axis=1)
        np.divide(won, total, out=areas[start : start + size], where=total > 0)
    return areas


def _wins(same: Values, own: NDArray[np.int64], others: Values, of_two: NDArray[np.int64]) -> Values:
    """How often pairs of each edit score above pairs of each two edits, ties counting half: edits × twos.

    Args:
        same: scores of the pairs within an edit.
        own: number of each of these pairs' edit.
        others: scores of the pairs across edits, ascending.
        of_two: number of each of these pairs' two edits.
    """
    wins = np.zeros((own.max(initial=-1) + 1, of_two.max(initial=-1) + 1))
    lower, done = np.zeros(wins.shape[1]), 0
    below, upto = (np.searchsorted(others, same, side) for side in ("left", "right"))
    for pair in np.argsort(same, kind="stable"):
        np.add.at(lower, of_two[done : below[pair]], 1.0)
        done = below[pair]
        wins[own[pair]] += lower
        np.add.at(wins[own[pair]], of_two[below[pair] : upto[pair]], 0.5)
    return wins


def measures(
    encoders: Mapping[str, Features], names: Sequence[str], told: NDArray[np.int64], statistics: Statistics
) -> list[dict[str, Any]]:
    """Rows of representation.csv.

    Args:
        encoders: features by name of the encoder; the same-edit AUC of the first is compared with the others'.
        names: name of each pair's edit, N.
        told: which of the T texts is each pair's instruction, N.
        statistics: of the bootstrap.

    Raises:
        InputError: there are fewer than two different edits.
    """
    _, first_row, edits = np.unique(np.asarray(names), return_index=True, return_inverse=True)
    if len(first_row) < 2:
        raise InputError(f"all {len(names)} held-out pairs are of one edit: nothing can be told apart")
    of_edit = np.zeros((len(first_row), int(told.max()) + 1), bool)
    of_edit[edits, told] = True
    right = {"retrieval_edit": of_edit[edits], "retrieval_wording": told[:, None] == np.arange(of_edit.shape[1])}
    different = of_edit.T.astype(int) @ of_edit.astype(int) == 0  # pairs of texts that no edit shares
    clusters = pd.DataFrame({"type": "", "exemplar": edits, "query": ""})
    weights = draws(clusters, statistics.resamples, statistics.seed, types=False)
    level, rows, areas = statistics.level, [], {}

    def add(encoder: str, measure: str, estimate: float, bounds: Sequence[float] | None, n: int, chance: Any) -> None:
        row = (encoder, measure, float(estimate), *(bounds or ("", "")), n, chance)
        rows.append(dict(zip(COLUMNS, row, strict=True)))

    def add_area(encoder: str, values: Values, chance: float) -> None:
        if np.isfinite(values[0]):  # else no edit has two pairs
            of_draws = values[np.isfinite(values)][1:]  # a draw of very few edits can miss either kind of pair
            bounds = np.quantile(of_draws, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(of_draws) else None
            add(encoder, "same_edit_auc", values[0], bounds, len(edits), chance)

    for name, found in encoders.items():
        for measure, table in right.items():
            hits = recalled(found.edits @ found.texts.T, table)
            bounds = [min(max(float(bound[0]), 0.0), 1.0) for bound in interval(hits, weights, level)]  # of a share
            add(name, measure, hits.mean(), bounds, len(hits), float(table.mean()))
        drawn = np.concatenate([np.ones((1, len(first_row))), weights[:, first_row]])
        areas[name] = weighted_auc(found.edits @ found.edits.T, edits, drawn)
        add_area(name, areas[name], 0.5)
        add(name, "instruction_cosine", (found.texts @ found.texts.T)[different].max(), None, len(found.texts), "")
    reference, *others = areas
    for other in others:
        add_area(f"{reference} - {other}", areas[reference] - areas[other], 0)
    return rows


def training_minutes(encoder: str, weights: Path) -> list[dict[str, Any]]:
    """The row of representation.csv that says how long the weights in a folder were trained; none if nothing does."""
    cost = weights / "logs" / "cost.json"
    if not cost.is_file():
        return []
    took = json.loads(cost.read_text(encoding="utf-8"))
    measure = {"cores": "core_minutes", "GPUs": "gpu_minutes"}[took["of"]]
    return [dict.fromkeys(COLUMNS, "") | {"encoder": encoder, "measure": measure, "estimate": took["seconds"] / 60}]


def main() -> None:
    """Write representation.csv and the features."""
    parser = stage.parser(__doc__)
    parser.add_argument("--triplets", type=Path, required=True, help="folder of triplets; its test split is read")
    parser.add_argument(
        "--encoders", type=stage.weights_argument, nargs="+", required=True, metavar="NAME=FOLDER",
        help="EditCLIP weights, then the plain CLIPs that it is compared with",
    )  # fmt: skip
    parser.add_argument("--statistics", type=stage.config_value, required=True, help="config section `statistics`")
    args = parser.parse_args()
    stage.use_threads(args.threads)
    (name, weights), *clips = args.encoders
    statistics, device = checked(Statistics, args.statistics, "statistics"), stage.device()
    inputs = {"triplets": args.triplets, name: weights, **dict(clips)}
    facts: dict[str, Any] = {"module": "editclip.metrics.representation", "config": args.statistics}
    facts |= {"threads": args.threads, "force": args.force}
    with stage.output_folder(args.out, inputs=inputs, **facts) as folder:
        encoders: dict[str, Clip | EditCLIP] = {name: EditCLIP.load(weights, device)}
        encoders |= {clip: Clip.load(path, device) for clip, path in clips}
        sides = {name: encoder.processor.size["height"] for name, encoder in encoders.items()}
        splits = {side: Triplets(args.triplets, "test", side) for side in set(sides.values())}  # usually one
        pairs = splits[sides[name]]
        texts, told = np.unique(np.asarray(pairs.edit_prompts), return_inverse=True)
        found = {n: features(n, encoder, splits[sides[n]], texts.tolist()) for n, encoder in encoders.items()}
        rows = measures(found, pairs.edit_ids or pairs.edit_prompts, told, statistics)
        rows += [row for encoder, path in args.encoders for row in training_minutes(encoder, path)]
        with (folder / "representation.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_features(folder, found, texts.tolist())


if __name__ == "__main__":
    stage.run(main)
