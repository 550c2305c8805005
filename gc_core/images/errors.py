"""Why a picture cannot be used."""


class ImageError(ValueError):
    """A picture that cannot be used; the message is the reason, `KIND (details)`, fit for a table."""
