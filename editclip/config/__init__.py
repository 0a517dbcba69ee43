"""The config of a run: a strict pydantic model a section, so that a stage depends on its own section alone."""
