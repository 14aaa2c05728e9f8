"""A small validator: gives out tasks, judges what comes back, and keeps account of every miner."""
