"""Other supervisors, each told what its own documentation shows for services that need each other."""
