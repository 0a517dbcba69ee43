"""How much of an encoder's attention lies inside the edit, and what that says of the benchmark's edits. No model here.

The *share* of an attention map is its sum over the patches, each counted with the fraction of it that the edit changes;
attention that is spread evenly over the image has the edit's *area* as its share, and *lift* is the share above that.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from editclip import stats
from editclip.config.run import Statistics

READINGS = ("clip_before", "clip_after", "editclip")  # CLIP of either image, EditCLIP of the pair
DIFFERENCES = {f"editclip - {clip}": clip for clip in ("clip_after", "clip_before")}
HEADS = ("last", "mean")  # the last head, as in the paper's Figure 3, and the mean over all heads of the block
# Ours. From half of the image on, attention that is spread evenly lies mostly inside the edit already, and there is
# more of the image to attend to than to leave out.
LOCAL_AREA = 0.5
VALUES = ("exemplar_id", "type", "family", "reading", "head", "share", "area", "lift")
SUMMARY = ("reading", "head", "scope", "scope_value", "share", "area", "lift", "low", "high", "n")
MAPS = ("exemplar_id", "reading", "head", "row", "column", "attention")
DECIMALS = 9  # of a lift: below, it is the rounding of a sum that is 1

Array = NDArray[np.float64]


def masked_fractions(mask: NDArray[np.bool_], rows: int, columns: int) -> Array:
    """The fraction of each patch that a mask covers, rows×columns in [0, 1]; their mean is the mask's area.

    Exact also where a patch is no whole number of pixels: a pixel on a border counts for both patches by its parts.
    """
    height, width = mask.shape
    return _parts(rows, height) @ mask @ _parts(columns, width).T


def _parts(patches: int, pixels: int) -> Array:
    """Of a side that is cut into patches and into pixels, the part of each patch that each pixel is: patches×pixels."""
    start = np.arange(pixels) * (patches / pixels)
    first, last = start[None], start[None] + patches / pixels
    patch = np.arange(patches)[:, None]
    overlap: Array = np.clip(np.minimum(last, patch + 1) - np.maximum(first, patch), 0, None)
    return overlap


def shares(attention: Array, fractions: Array) -> dict[str, float]:
    """Share, area and lift of one map.

    Args:
        attention: rows×columns, at least 0, sum 1.
        fractions: what `masked_fractions` gives.
    """
    share, area = float((attention * fractions).sum()), float(fractions.mean())
    return {"share": share, "area": area, "lift": round(share - area, DECIMALS) + 0.0}


def is_local(area: "pd.Series[float]") -> "pd.Series[bool]":
    """Which areas are of local edits: some pixel changes visibly, and less than `LOCAL_AREA` of the image does."""
    return (area > 0) & (area < LOCAL_AREA)


def summarise(values: pd.DataFrame, statistics: Statistics) -> pd.DataFrame:
    """Mean share, area and lift by reading, head and scope, and the differences of EditCLIP's share from CLIP's.

    Intervals are over edit types drawn like these, each with all its exemplars; of a single type, over its exemplars.

    Args:
        values: columns `VALUES`, a row an exemplar, reading and head.
        statistics: of the bootstrap.

    Returns:
        Columns `SUMMARY`. Scopes are "all", "local" (see `is_local`) and, where the benchmark has families, "family",
        in which edits of any area count. `low` and `high` bound the lift, NaN where there is no replication. The area
        is the same for all readings: the lift of a difference is the difference of the shares, and it has no area.
    """
    parts = [_scope(*scope, statistics) for scope in _scopes(values)]
    return pd.concat(parts, ignore_index=True)[list(SUMMARY)]


def _scopes(values: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Scope, scope value and rows of each scope that has any."""
    yield "all", "", values
    local = values[is_local(values["area"])]
    if len(local):
        yield "local", "", local
    for family in dict.fromkeys(values["family"]):
        if family:
            yield "family", family, values[values["family"] == family]


def _scope(scope: str, value: str, rows: pd.DataFrame, statistics: Statistics) -> pd.DataFrame:
    """The summary of one scope."""
    wide = rows.pivot(index="exemplar_id", columns=["head", "reading"], values=["share", "area", "lift"])
    first = rows.drop_duplicates("exemplar_id").set_index("exemplar_id").loc[wide.index]
    samples = pd.DataFrame({"type": first["type"], "exemplar": first.index, "query": ""})
    types = samples["type"].nunique() > 1
    weights = stats.draws(samples, statistics.resamples, statistics.seed, types=types)
    found: list[dict[str, Any]] = []
    for head in HEADS:
        of = {name: pd.DataFrame(wide.xs((head, name), axis=1, level=["head", "reading"])) for name in READINGS}
        of |= {name: (of["editclip"] - of[clip]).assign(area=np.nan) for name, clip in DIFFERENCES.items()}
        for reading, table in of.items():
            lift = table["lift"].to_numpy()
            freedom = stats.degrees_of_freedom(lift, samples, types=types)
            low, high = stats.interval(lift, weights, statistics.level, freedom)
            row = {"reading": reading, "head": head, "scope": scope, "scope_value": value, "n": len(table)}
            means = {name: float(table[name].mean()) for name in ("share", "area", "lift")}
            found.append(row | means | {"low": low[0], "high": high[0]})
    return pd.DataFrame(found)
