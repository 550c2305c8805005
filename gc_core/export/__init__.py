"""A finished crosscoder in other people's formats."""

from gc_core.export.hub import Story, write_hub
from gc_core.export.materialised import materialised, materialised_bytes
from gc_core.export.saelens import IdentityAutoencoder, identity_autoencoder, write_saelens

__all__ = [
    "IdentityAutoencoder", "Story", "identity_autoencoder", "materialised", "materialised_bytes", "write_hub",
    "write_saelens",
]  # fmt: skip
