"""Benchmarks, each beside a reference; installed as `simengine.benchmarks`, run by `simengine bench NAME`."""
