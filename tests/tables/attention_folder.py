"""What an edit encoder attends to in the planted run: EditCLIP to the top left patch of four, CLIP to all alike.

Of the run's three types to_night changes everything, colour_red the top left quarter and add_hat the left half of that;
with the weight w on that patch, EditCLIP's share inside the edit is 1, w and w / 2.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from run_folder import EXEMPLARS, SIDE, STATISTICS, TYPES

from editclip.config.run import Statistics
from editclip.metrics.attention_shares import HEADS, MAPS, READINGS, VALUES, masked_fractions, shares, summarise
from editclip.storage import write_json

CHANGED = {"to_night": (SIDE, SIDE), "colour_red": (SIDE // 2, SIDE // 2), "add_hat": (SIDE // 2, SIDE // 4)}
EVEN = np.full((2, 2), 0.25)
ALIKE = {"to_night": 0.5, "colour_red": 0.5, "add_hat": 0.75}  # weights with which both local types have a lift of 0.25


def top_left(weight: float) -> np.ndarray:
    """Attention with a weight on the top left patch and the rest spread evenly."""
    return np.array([[weight, (1 - weight) / 3], [(1 - weight) / 3, (1 - weight) / 3]])


def write_attention(
    run: Path, weights: Mapping[str, float] = ALIKE, encoder: str = "editclip", types: tuple[str, ...] = tuple(TYPES)
) -> Path:
    """The folder of an encoder in a run, as the stage writes it.

    Args:
        run: the run's folder.
        weights: by type, that of EditCLIP's last head; the mean of its heads spreads attention evenly, as CLIP does.
        encoder: its name.
        types: those whose exemplars were measured.
    """
    folder = run / "attention" / encoder
    (folder / "masks").mkdir(parents=True)
    values, patches = [], []
    for kind in types:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[: CHANGED[kind][0], : CHANGED[kind][1]] = True
        for exemplar in (f"01-{kind}-e{number}" for number in range(EXEMPLARS)):
            Image.fromarray(mask).save(folder / "masks" / f"{exemplar}.png")
            for reading in READINGS:
                for head in HEADS:
                    focused = reading == "editclip" and head == "last"
                    attention = top_left(weights[kind]) if focused else EVEN
                    found = shares(attention, masked_fractions(mask, 2, 2))
                    values.append((exemplar, kind, TYPES[kind], reading, head, *found.values()))
                    patches += [(exemplar, reading, head, *at, value) for at, value in np.ndenumerate(attention)]
    frame = pd.DataFrame(values, columns=list(VALUES))
    frame.to_csv(folder / "attention.csv", index=False)
    summarise(frame, Statistics(**STATISTICS)).to_csv(folder / "summary.csv", index=False)
    with (folder / "maps.csv").open("w", newline="") as file:
        csv.writer(file).writerows([MAPS, *patches])
    facts = {"encoder": encoder, "clip": "clip", "level": 0.95, "patches": dict.fromkeys(READINGS, [2, 2])}
    write_json(folder / "attention.json", facts)
    return folder
