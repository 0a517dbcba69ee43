"""The file of claims: what each says, where the paper says it, which runs can test it and the rule that decides it.

A claim needs one or more comparisons, whose intervals decide it. docs/claims.md explains the kinds of rules.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from editclip.config.claims import Scope
from editclip.config.reading import read_yaml
from editclip.config.section import NUMERIC, Distinct, Name, Section, Text, checked
from editclip.errors import InputError, nearest
from editclip.report.columns import COLUMNS, column, title

NO_SCORES = ("runtime_s", "runtime_amortised_s")  # columns with a better direction that no score file has
BETTER = {name: shown.better for name, shown in COLUMNS.items() if shown.better and name not in NO_SCORES}
WORDS = {"edit": "edit quality", "preserves": "preservation"}
SPREAD = {
    "clip_after": "CLIP's of the image after",
    "clip_before": "CLIP's of the image before",
    "even": "attention spread evenly",
}


def _with_direction(metric: str) -> str:
    if metric not in BETTER:
        known = ", ".join(BETTER)
        raise ValueError(f'"{metric}" is no metric with a better direction{nearest(metric, BETTER)}; known: {known}')
    return metric


Metric = Annotated[str, AfterValidator(_with_direction)]
Questions = Annotated[Distinct[Literal["edit", "preserves"]], Field(min_length=1)]
Statistic = Literal["d1", "d2", "d3", "d4", "within"]


def listed(names: Sequence[str]) -> str:
    """The names as a list in a sentence: "A, B and C"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _only_others(rivals: Sequence[str], own: str) -> None:
    if own in rivals:
        raise ValueError(f"{own} is among its own rivals; leave it out")


class _OfRows(Section):
    """What a rule about a method and its rivals has."""

    method: Text
    """the method that is said to be ahead, by the claims' name"""
    rivals: Annotated[Distinct[Text], Field(min_length=1)]
    """those that it has to be ahead of, each of them"""

    @model_validator(mode="after")
    def _is_not_its_own_rival(self) -> Self:
        _only_others(self.rivals, self.method)
        return self


class Best(_OfRows):
    """A method scores better than each of its rivals, by paired differences over the samples."""

    kind: Literal["best"]
    table: Name
    """whose rows they are"""
    metrics: Annotated[Distinct[Metric], Field(min_length=1)]
    """on each of which it has to be ahead: columns of Table 1 or metrics of the score files"""
    families: Annotated[Distinct[Text], Field(min_length=1)] | None
    """of edits, taken together, of which the claim is made; null = all samples"""

    null: ClassVar[float] = 0.0

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        ways = [f"{column(metric).label} {'higher' if BETTER[metric] > 0 else 'lower'}" for metric in self.metrics]
        where = f", families {listed(self.families)}" if self.families else ""
        return f"{title(self.table)}{where}: {listed(ways)} for {self.method} than for {listed(self.rivals)}"


class Faster(_OfRows):
    """An edit of a method takes fewer seconds than one of each of its rivals, on the same samples."""

    kind: Literal["faster"]
    table: Name
    """whose rows they are"""
    times: Annotated[float, Field(gt=0), NUMERIC]
    """the rivals' seconds are multiplied by it first: 1 = faster, 1.1 = at most a tenth slower"""

    null: ClassVar[float] = 0.0

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        share = "" if self.times == 1 else f"{self.times:g} times "
        return f"{title(self.table)}: seconds of {self.method} fewer than {share}those of {listed(self.rivals)}"


class Preferred(_OfRows):
    """A method gets more than half of the votes against each of its rivals."""

    kind: Literal["preferred"]
    study: Name
    """in which they were compared"""
    questions: Questions
    """each of which has to be answered so"""

    null: ClassVar[float] = 0.5

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        asked = listed([WORDS[question] for question in self.questions])
        against = listed(self.rivals) if len(self.rivals) == 1 else f"each of {listed(self.rivals)}"
        return f"Study {self.study}, {asked}: more than half of the votes for {self.method} against {against}"


class _OfVotes(Section):
    """What a rule about a metric and votes has."""

    study: Name
    """whose votes they are"""
    questions: Questions
    """for each of which it has to hold"""
    statistic: Statistic
    """d1: pooled over all pairs of methods, the paper's most likely one; within: inside each pair, then combined"""
    metric: Metric
    """that is said to go with the votes: better scores, more votes"""

    null: ClassVar[float] = 0.0

    @property
    def _of_what(self) -> str:
        asked = listed([WORDS[question] for question in self.questions])
        return f"Study {self.study}, {asked}: correlation ({self.statistic}) of votes with {column(self.metric).label}"


class Correlates(_OfVotes):
    """A metric goes with the votes."""

    kind: Literal["correlates"]

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        return f"{self._of_what} positive"


class CorrelatesMore(_OfVotes):
    """A metric goes with the votes more closely than each of its rivals does."""

    kind: Literal["correlates_more"]
    rivals: Annotated[Distinct[Metric], Field(min_length=1)]
    """the metrics that it has to be ahead of, each of them"""

    @model_validator(mode="after")
    def _is_not_its_own_rival(self) -> Self:
        _only_others(self.rivals, self.metric)
        return self

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        return f"{self._of_what} higher than with {listed([column(rival).label for rival in self.rivals])}"


class Attends(Section):
    """More of an edit encoder's attention lies inside the edit than of what it is compared with, on local edits."""

    kind: Literal["attends"]
    encoder: Name
    """the weights of the edit encoder, as the config's section `attention` names them"""
    head: Literal["last", "mean"]
    """of the last block: the last head, as in the paper's Figure 3, or the mean over all"""
    rivals: Annotated[Distinct[Literal["clip_after", "clip_before", "even"]], Field(min_length=1)]
    """each of which it has to be ahead of: plain CLIP of the image after or before, and attention spread evenly over
    the image, whose share is the edit's area"""

    null: ClassVar[float] = 0.0

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        head = {"last": "last head", "mean": "mean over heads"}[self.head]
        return (
            f"Class token of {self.encoder}, last block, {head}, local edits: more of its attention inside the edit "
            f"than of {listed([SPREAD[rival] for rival in self.rivals])}"
        )


Rule = Best | Faster | Preferred | Correlates | CorrelatesMore | Attends


class Claim(Section):
    """One claim of the paper."""

    text: Text
    """what it says, in our words"""
    source: Text
    """the section, table or figure that says it"""
    scopes: Annotated[Distinct[Scope], Field(min_length=1)]
    """the runs that can test it"""
    rule: Annotated[Rule, Field(discriminator="kind")]
    """what decides it"""


class ClaimsFile(Section):
    """A file of claims."""

    claims: dict[Name, Claim]
    """id: claim"""


def read_claims(path: Path) -> dict[str, Claim]:
    """The claims of a file by id, in its order.

    Raises:
        InputError: the file cannot be read, or a claim is not what it has to be.
    """
    try:
        return dict(checked(ClaimsFile, read_yaml(path)).claims)
    except InputError as error:  # whose sentences are made for configs
        raise InputError(f"{path}: {error}".replace("docs/configuration.md", "docs/claims.md")) from None
