"""Studies in which people judge edits: their design, their votes, and which metrics agree with them."""
