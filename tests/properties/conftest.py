"""Property tests run on busy machines: how long one example takes says nothing there."""

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
