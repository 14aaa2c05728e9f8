"""Units of work, attempts, leases with fencing tokens, slots and retries."""
