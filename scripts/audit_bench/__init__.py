"""The parts of `bench_audit.py`, one file each: `measure(quick, progress)` returns its figures."""
