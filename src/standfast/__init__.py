"""Standfast: nothing is lost silently and nothing is called green without evidence."""

__version__ = "0.1.0"
