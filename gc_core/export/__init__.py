"""A finished crosscoder in other people's formats."""

from gc_core.export.hub import Story, write_hub
from gc_core.export.saelens import IdentityAutoencoder, identity_autoencoder, write_saelens

__all__ = ["IdentityAutoencoder", "Story", "identity_autoencoder", "write_hub", "write_saelens"]
