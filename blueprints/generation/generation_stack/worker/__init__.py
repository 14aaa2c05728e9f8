"""The gen-worker: takes tasks, has the model work on them until each is done or has failed for a reason."""
