"""Benchmarks: `python -m tests.bench [PART]…`, or `make bench` for all parts."""
