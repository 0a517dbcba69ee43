"""Lets these tests use the planted run folder of tests/tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tables"))
