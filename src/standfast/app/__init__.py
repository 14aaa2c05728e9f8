"""Configuration, wiring and loops: the only place that picks adapters."""
