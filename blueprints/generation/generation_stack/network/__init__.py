"""Who takes part in the network: identities, their signatures, and where they are registered."""
