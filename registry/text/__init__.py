"""Text that is verified: tokenizers, chat templates, and the vectors that prove them."""
