"""Metrics of edits, one module a family: `lpips`, `clip`, `editclip`, `ground_truth`.

`EC2T` and `EC2EC` are also torchmetrics metrics, usable alone::

    from editclip.metrics import EC2T
    metric = EC2T("weights/editclip")
    metric.update(before, after, instructions); metric.compute()

They are imported when asked for, by a name in a string, so that importing one family neither loads torch here nor
draws the other families into its code digest.
"""

import importlib
from typing import Any

__all__ = ["EC2EC", "EC2T"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("editclip.metrics.modules"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
