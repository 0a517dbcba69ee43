"""Tables: which methods are rows, and what they are held against."""

from editclip.config.section import Distinct, Name, Section, Text


class TableDeclaration(Section):
    """One table."""

    rows: Distinct[Name]
    """methods, in order"""
    reference: Name | None
    """the row that differences are taken from"""
    paper: Text | None
    """the published table, as CSV"""
