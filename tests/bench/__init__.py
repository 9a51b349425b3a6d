"""Benchmarks: `python -m tests.bench [floors] [batch] [single] [critical] [baseline]`, or `make bench` for all of them."""
