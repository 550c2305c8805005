"""What a run costs by a price table: machines by the hour, storage by the month, requests by the thousand."""

from dataclasses import dataclass

from gc_core.planning.forecast import Forecast
from gc_core.planning.prices import Prices

GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """US dollars."""

    cluster_per_hour: float
    """All machines, the head among them."""
    machines: float | None
    """Machines for all stages; None where hours are unknown."""
    requests: float
    storage: float
    """For the months asked for."""

    @property
    def total(self) -> float | None:
        """None where hours are unknown."""
        return None if self.machines is None else self.machines + self.requests + self.storage


def bill(expected: Forecast, prices: Prices, *, instance: str, num_workers: int, months: float) -> Bill:
    """What the forecast costs on so many workers, whose results are kept for so many months.

    Raises:
        ValueError: the table has no such instance.
    """
    machine = prices.instance(instance)
    count = -(-num_workers // machine.workers)
    per_hour = count * machine.usd_per_hour + prices.instance(prices.head).usd_per_hour
    return Bill(
        cluster_per_hour=per_hour,
        machines=None if expected.hours is None else expected.hours * per_hour,
        requests=expected.puts / 1000 * prices.put_usd_per_1000 + expected.gets / 1000 * prices.get_usd_per_1000,
        storage=months * expected.stored_bytes / GB * prices.storage_usd_per_gb_month,
    )
