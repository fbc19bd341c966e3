"""The engine: verified tensors in, tokens and labels out, reproducible from a receipt."""
