"""Why an image cannot be used."""


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, `KIND (details)`, fit for a table."""
