"""The chain, through web3.py: the only package that knows it."""
