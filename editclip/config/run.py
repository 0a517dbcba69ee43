"""The run itself: its name, its seeds, its statistics, and how it is timed."""

from typing import Annotated

from pydantic import Field

from editclip.config.section import NUMERIC, Count, Distinct, Name, Section, Text, Whole

Seeds = Annotated[Distinct[Whole], Field(min_length=1)]


class Run(Section):
    """What the run is called and drawn from."""

    name: Name
    """outputs go to results/<name>/"""
    label: Text
    """shown in the notes column of every table"""
    notice: str | None
    """shown above every table and figure; null = nothing"""
    seed: Annotated[Whole, Field(lt=2**63)]
    """base seed of data, training and noise"""
    seeds: Seeds
    """repetitions of every method that has no `seeds` of its own"""
    allow_unpinned: bool
    """take weights from a hub at whatever revision it has today"""


class Statistics(Section):
    """Intervals and tests of the tables, docs/statistics.md."""

    resamples: Annotated[int, Field(ge=1000)]
    """bootstrap draws; fewer than 1000 leave the bounds themselves uncertain"""
    level: Annotated[float, Field(ge=0.5, lt=1), NUMERIC]
    """of every interval"""
    seed: Whole
    """of the draws"""


class Runtime(Section):
    """Seconds per edit: one by one, alone on the machine, preparation of the exemplar and plan included."""

    samples: Count
    """timed samples of each method, spread over the bench"""
    repeats: Count
    """how often each of them is timed; the spread over the repeats stands in the full table"""
    warm_up: Whole
    """edits before them that are not counted"""
