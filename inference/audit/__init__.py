"""The audit log: what the node said, in an order nobody can change unseen."""
