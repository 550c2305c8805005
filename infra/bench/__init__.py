"""Benchmarks that anyone can run: `python -m infra.bench NAME`; NAME alone lists its options with --help."""
