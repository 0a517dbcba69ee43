"""The compared methods: one module each, with a card of literal constants and a `load` function."""
