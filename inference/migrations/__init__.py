"""The database's schema through time: each file under `versions` is one step, applied in order.

They are frozen history and never import `inference.schema`, which is only the newest state; a
test compares the two.
"""
