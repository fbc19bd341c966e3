"""The parts of `bench_engine.py`: sides, their processes, the load they get, and its figures."""
