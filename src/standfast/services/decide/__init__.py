"""The rules of supervision, by decision.

Where a service stands, whether it is ready, what follows its end,
what comes after what.
"""
