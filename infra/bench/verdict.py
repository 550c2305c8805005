"""How a benchmark says whether a target was reached."""


def verdict(reached: bool, what: str) -> str:
    """One line, aligned with others."""
    return f"{'reached' if reached else 'MISSED '}  {what}"
