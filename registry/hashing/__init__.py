"""Folders, files and tensors to digests, and files that can no longer change."""
