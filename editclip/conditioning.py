"""stub"""

from typing import Literal

Condition = Literal["edit", "after", "sum", "channels", "sequence"]
Layer = Literal["hidden", "projected"]
