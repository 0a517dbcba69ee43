"""The training data."""

from typing import Annotated, Literal

from pydantic import Field

from editclip.config.section import Count, Section, Text


class WorldSizes(Section):
    """What is drawn from the procedural world."""

    resolution: Count
    """image side in pixels"""
    train: Count
    """pairs that are trained on"""
    validation: Count
    """pairs watched while tuning"""
    test: Count
    """pairs held out even from tuning: instruction retrieval is measured here"""


class WorldTriplets(WorldSizes):
    """Drawn from the procedural world."""

    source: Literal["world"]


class OwnTriplets(Section):
    """A folder of Parquet files in the schema of timbrooks/instructpix2pix-clip-filtered."""

    source: Literal["parquet"]
    path: Text
    """the folder"""


Triplets = Annotated[WorldTriplets | OwnTriplets, Field(discriminator="source")]
