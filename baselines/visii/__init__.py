"""VISII, an instruction learnt from one before/after pair."""
