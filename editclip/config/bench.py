"""The benchmark."""

from typing import Annotated, Literal

from pydantic import Field

from editclip.config.section import Count, Name, Section, Text, Whole


class BenchSettings(Section):
    """How a tree <root>/<group>/<edit_type>/{train,test}/<id>_{0,1}.{jpg,png} is read."""

    name: Name
    """enters every noise seed"""
    resolution: Count
    """side of the canonical frame in pixels"""
    expect: Literal["top-bench-x"] | None
    """top-bench-x: refuse a tree that has not its counts; null = any tree"""
    strict: bool
    """deviations from `expect` are an error; false = they are listed"""
    skip_incomplete: bool
    """leave out pairs that lack an image instead of refusing the tree"""
    max_pixels: Count
    """larger images are refused before decoding"""


class WorldTree(Section):
    """What is drawn from the procedural world."""

    resolution: Count
    """side of the images in pixels"""
    types: Count
    """edit types, over all families of edits but `multi`"""
    multi_edits: Whole
    """edit types of the family `multi`, three parts each, for tables that name it; no other type changes with them"""
    exemplars: Count
    """per edit type"""
    queries: Count
    """per edit type"""


class WorldBench(BenchSettings):
    """Drawn from the procedural world."""

    source: Literal["world"]
    types: Count
    """edit types, over all families of edits but `multi`"""
    multi_edits: Whole
    """edit types of the family `multi`, three parts each, for tables that name it; no other type changes with them"""
    exemplars: Count
    """per edit type"""
    queries: Count
    """per edit type"""


class OwnBench(BenchSettings):
    """A tree on this disk."""

    source: Literal["path"]
    path: Text
    """the tree; its texts.jsonl holds instructions and captions"""


Bench = Annotated[WorldBench | OwnBench, Field(discriminator="source")]
