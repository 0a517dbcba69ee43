"""Tables: which methods are rows, what they are held against, and what a table's stages are told of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from editclip.config.run import Seeds, Statistics
from editclip.config.section import Distinct, Dotted, Name, Named, Number, Section, Text


class Bar(Section):
    """What a value has to reach, set before the run."""

    at_least: Number | None = None
    """the smallest value that meets the bar"""
    at_most: Number | None = None
    """the largest value that meets the bar; one of the two, or both"""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a bar is at_least some number, at_most some number or both; give one of them")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"a bar of at_least {self.at_least:g} and at_most {self.at_most:g} can't be met; swap them"
            )
        return self

    def met(self, value: float) -> bool:
        """Whether `value` meets the bar."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = {"at least": self.at_least, "at most": self.at_most}
        return ", ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)


class FamilyBar(Section):
    """What every family of edits has to reach: a family misses it if even the upper end of its interval does."""

    at_least: Number
    """the smallest upper end that meets the bar"""
    hard: Distinct[Text]
    """families that were declared hard beforehand, which the bar spares"""


class MetricBar(Bar):
    """A bar for the mean of a metric over the whole bench, or for its difference from another row's."""

    metric: Name
    """as the scores call it, such as closer or ec2ec"""
    rows: Distinct[Text]
    """the rows that it was set for"""
    minus: Text | None = None
    """the row whose value is subtracted, sample by sample; null = none, the bar is for the mean itself"""
    families: FamilyBar | None = None
    """what the mean of each family has to reach; null = families have no bar"""


class EncoderBar(Bar):
    """A bar for a measure of an encoder's representation."""

    measure: Name
    """such as retrieval_edit or same_edit_auc"""
    encoder: Name
    """the encoder that it was set for: one of those of `representation` in the config"""


class TableDeclaration(Section):
    """One table."""

    rows: Distinct[Text] = Field(min_length=1)
    """methods, or names of `trainings`, in order"""
    trainings: Named[Annotated[Distinct[Text], Field(min_length=2)]] = Field(default_factory=dict)
    """row: the methods that it takes together, one method trained several times from other seeds; every training counts
    as further repetitions of the row, and no such row is timed"""
    reference: Text | None
    """the row that differences are taken from; null = no differences"""
    paper: Text | None
    """the published table, as CSV; null = there is none"""
    bars: list[MetricBar]
    """what means have to reach in some rows, set before the run"""
    representation: list[EncoderBar] | None
    """what measures of representations have to reach, if the config has any measured; null = the table's evidence says
    nothing of representations"""
    study: Name | None
    """the study whose votes fill the win rates; null = none"""
    families: Annotated[Distinct[Text], Field(min_length=1)] | None = None
    """the families of edits that the table is about; null = all but `multi`, which is for tables that name it, so that
    no other changes with it. A method edits what its tables and studies are about"""

    @model_validator(mode="after")
    def _names_are_rows(self) -> Self:
        named = {"reference": [self.reference] if self.reference else []}
        named |= {f"bars[{i}].rows": bar.rows for i, bar in enumerate(self.bars)}
        named |= {f"bars[{i}].minus": [bar.minus] for i, bar in enumerate(self.bars) if bar.minus}
        for key, names in named.items():
            for name in names:
                if name not in self.rows:
                    known = ", ".join(self.rows)
                    raise ValueError(f'{key} names "{name}", which is no row of the table; its rows: {known}')
        for name in self.trainings:
            if name not in self.rows:
                raise ValueError(
                    f'trainings has "{name}", which is no row of the table; its rows: {", ".join(self.rows)}'
                )
            for member in self.trainings[name]:
                if member in self.rows:
                    raise ValueError(f'{member} is a row and a training of the row "{name}"; leave one out')
                for other in self.trainings:
                    if other != name and member in self.trainings[other]:
                        raise ValueError(f'{member} is a training of two rows, "{name}" and "{other}"; leave one out')
        if self.study and self.reference is None:
            raise ValueError(f"study {self.study}: win rates are those of the reference; name one, or study: null")
        barred = [(bar.metric, bar.minus, row) for bar in self.bars for row in bar.rows]
        for metric, minus, row in barred:
            if barred.count((metric, minus, row)) > 1:
                from_what = f", from {minus}" if minus else ""
                raise ValueError(f"bars has two bars for {metric} of {row}{from_what}; keep one")
        return self

    @property
    def methods(self) -> dict[str, str]:
        """The methods whose results the table is made of, each with its row, in the order of the rows."""
        return {method: row for row in self.rows for method in self.trainings.get(row, [row])}

    def bar(self, metric: str, row: str) -> MetricBar | None:
        """The bar for a metric's mean in a row, if there is one."""
        return next((b for b in self.bars if b.metric == metric and b.minus is None and row in b.rows), None)


class TableMethod(Section):
    """A method as the stages of a table know it: its entry of the config, resolved, and its card."""

    editor: Dotted | None
    """the module; None for outputs of unknown origin"""
    weights: dict[str, Name]
    """role: name of the weights, complete"""
    exemplars: Literal["own", "shuffled"]
    """whose exemplars it is fed"""
    seeds: Seeds
    """its repetitions"""
    options: dict[str, Any]
    """all options of the card, those that the entry leaves out at their defaults"""
    label: Text
    """name for people"""
    paper: str
    """address of its paper"""
    license: str
    """licence of its code and weights"""
    conditioning: str
    """what tells it the edit: text, exemplar, none, or unknown"""
    trained_on: list[str]
    """data sets that its weights have seen"""
    trained: list[Name] = Field(default_factory=list)
    """those of its weights that the run trained itself"""

    @property
    def control(self) -> bool:
        """Whether it shows what a metric gives for free rather than competes."""
        return self.conditioning == "none" or self.exemplars == "shuffled"

    def differs_in_exemplars_alone(self, other: "TableMethod") -> bool:
        """Whether both are the same editor with the same options and weights, of which only one gets its own exemplars.

        Among outputs of unknown origin nobody can tell.
        """
        mine, theirs = ((m.editor, m.options, m.weights) for m in (self, other))
        return self.editor is not None and mine == theirs and self.exemplars != other.exemplars


class Table(Section):
    """All that the stages of one table need to know."""

    name: Name
    """of the table and its files"""
    label: Text
    """of the run"""
    notice: str | None
    """shown above the table"""
    statistics: Statistics
    """intervals and tests"""
    declaration: TableDeclaration
    """the config's entry"""
    methods: dict[Text, TableMethod]
    """the methods of its rows"""

    @model_validator(mode="after")
    def _rows_are_methods(self) -> Self:
        for method in self.declaration.methods:
            if method not in self.methods:
                raise ValueError(f"methods lacks {method!r}, of the rows; it has {list(self.methods)}")
        return self

    @property
    def of_rows(self) -> dict[str, TableMethod]:
        """The methods that the rows are made of, by name, in the order of the rows."""
        return {name: self.methods[name] for name in self.declaration.methods}

    @property
    def rows(self) -> dict[str, TableMethod]:
        """The rows by name, in order: a method, or several trainings of one with the repetitions of all, numbered."""
        return {row: self._row(row) for row in self.declaration.rows}

    def _row(self, row: str) -> TableMethod:
        trainings = [self.methods[name] for name in self.declaration.trainings.get(row, ())]
        if not trainings:
            return self.methods[row]
        first = trainings[0]
        weights = {role: "+".join(dict.fromkeys(m.weights[role] for m in trainings)) for role in first.weights}
        trained = list(dict.fromkeys(name for method in trainings for name in method.trained))
        seeds = list(range(sum(len(method.seeds) for method in trainings)))
        return first.model_copy(update={"weights": weights, "trained": trained, "seeds": seeds})
