"""Programs that are kept running: start, readiness, restart policy, stop."""
