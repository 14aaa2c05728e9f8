"""What happened: append-only, hash-chained facts, and the database they live in."""
