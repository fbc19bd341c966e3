"""What `measure_replay.py` is made of."""
