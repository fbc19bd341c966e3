"""What becomes of the money when a node is killed, its disk is full, or its clients are hostile."""
