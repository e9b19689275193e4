"""Benchmarks that run on their own."""
