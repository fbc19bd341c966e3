"""The engine's own kernels for a CPU, compiled from Python when they are first used.

Every number is computed by a fixed sequence of single-precision operations, in an order that
depends on nothing but the shapes of the model: not on how many rows are computed together, on how
many threads share the work, or on how wide the processor's vectors are. So what a call computes is
the same bit for bit whatever else is computed beside it, on every processor with fused
multiply-add. Weights in bfloat16 are widened, which is exact.
"""
