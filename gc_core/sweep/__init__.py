"""Many crosscoders of one run compared: which combinations, which of them are stopped, what size and compute buy."""
