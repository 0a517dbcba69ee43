"""Data: the procedural world, training triplets in Parquet, and benchmarks in TOP-Bench's folder layout."""
