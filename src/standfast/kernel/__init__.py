"""Values that everything else stands on: verdicts, errors, time, names; standard library only."""
