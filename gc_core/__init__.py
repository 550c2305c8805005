"""Group crosscoders: dictionary learning over all transformed versions of an input under a symmetry group."""

__version__ = "0.1.0"
