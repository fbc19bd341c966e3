"""The parts of `bench_payments.py`: what is sold, who sells it, and the load they get."""
