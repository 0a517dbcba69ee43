"""LEDITS++: second-order noise maps of the query, and guidance by a concept under a mask."""
