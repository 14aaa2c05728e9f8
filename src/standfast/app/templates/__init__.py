"""What ``standfast init`` writes."""
