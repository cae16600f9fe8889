"""Ours against the others, on the same weights, images and threads: ``python tests/benchmarks --help``."""
