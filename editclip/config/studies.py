"""Studies: which edits are judged in pairs, by whom, and which metrics are held against the votes."""

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from editclip.config.section import NUMERIC, Count, Distinct, Name, Rate, Section, Share, Text


class Catch(Section):
    """Trials with a known answer among the pairs, which show whether a rater attends."""

    share: Annotated[float, Field(gt=0, le=0.5), NUMERIC]
    """of all items"""
    right: Name
    """the method whose output an attentive rater chooses as the better edit"""
    wrong: Name
    """the method that it is shown beside"""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.right == self.wrong:
            raise ValueError(f"right and wrong are both {self.right}; a trial shows two methods")
        return self


class Exclusion(Section):
    """Which raters are left out, all votes of theirs, by rules set before the study."""

    catch_right: Share
    """those who got a smaller share of their catch trials right; 0 = nobody"""
    median_seconds: Rate
    """those whose median time for an item was shorter; 0 = nobody"""


class Design(Section):
    """What a study compares and how: all that is settled before there are votes."""

    methods: Annotated[Distinct[Name], Field(min_length=2)]
    """whose edits are compared; of two the one that stands first here is the first one of all analyses"""
    pairs: Literal["first", "all"]
    """first: the first method against each of the others, as in the paper; all: each against each"""
    seeds: Count
    """repetitions shown of each sample and pair, drawn of those that both methods have; the paper shows 2 of 5"""
    items: Count | None
    """of each pair, each a repetition of a sample, drawn evenly over the edit types; null = all"""
    votes: Count
    """votes wanted for each item and question, of as many raters"""
    catch: Catch | None
    """null = no catch trials"""
    exclude: Exclusion

    @property
    def compared(self) -> list[tuple[str, str]]:
        """The pairs of methods, each in the fixed orientation."""
        if self.pairs == "first":
            return [(self.methods[0], other) for other in self.methods[1:]]
        return list(itertools.combinations(self.methods, 2))

    @property
    def shown(self) -> list[str]:
        """All methods whose edits are shown, those of the catch trials last."""
        return list(dict.fromkeys([*self.methods, *((self.catch.right, self.catch.wrong) if self.catch else ())]))


class OracleVotes(Section):
    """Votes drawn from what the benchmark's ground truth says of the outputs, by simulated raters."""

    source: Literal["oracle"]
    raters: Count
    """simulated raters"""
    noise: Rate
    """dB by which one output has to be closer to the truth for odds of e to 1; 0 = the closer one always wins"""
    lapse: Share
    """share of votes that are given without looking"""


class OwnVotes(Section):
    """A file of votes that people have given."""

    source: Literal["path"]
    path: Text
    """votes.csv, of which the hit.md of the exported study says what it holds"""


class NoVotes(Section):
    """None yet: the study is drawn and exported."""

    source: Literal["none"]


class Study(Design):
    """One study."""

    metrics: Annotated[Distinct[Name], Field(min_length=1)]
    """those that are held against the votes, as the scores call them, such as ec2ec; clip_dir = the one of its two
    forms that the scoring card names"""
    origin: Annotated[OracleVotes | OwnVotes | NoVotes, Field(discriminator="source")]
    """where the votes come from"""

    @model_validator(mode="after")
    def _enough_raters(self) -> Self:
        if isinstance(self.origin, OracleVotes) and self.origin.raters < self.votes:
            raise ValueError(
                f"origin.raters {self.origin.raters} cannot give {self.votes} votes for each item, as nobody votes "
                "twice on one; raise it or lower votes"
            )
        return self

    @property
    def design(self) -> Design:
        """What the design of the study is told: nothing that matters only once there are votes."""
        return Design(**{name: getattr(self, name) for name in Design.model_fields})
