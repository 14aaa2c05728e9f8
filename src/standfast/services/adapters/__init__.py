"""Processes, logs, probes and /proc: everything that services do outside their rules."""
