"""The HTTP API: OpenAI's shapes, x402's headers. FastAPI lives here and nowhere else."""
