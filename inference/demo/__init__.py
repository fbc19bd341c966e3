"""What the demonstration serves: a real language model and a real training, small enough to run."""
