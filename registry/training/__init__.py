"""Training runs as records: what went in, where it ran, what came out."""
