"""Why a service ended: a named class with its action, its evidence, its fix, and how sure that is."""
