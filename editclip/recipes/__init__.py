"""Recipes: what a kind of weights is, without the code that trains it, so that a config is checked without torch."""
