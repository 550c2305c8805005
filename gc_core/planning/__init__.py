"""What a run of a given size will take, before anything runs: hours, bytes, requests, memory, traffic and money."""

from gc_core.planning.bill import Bill, bill
from gc_core.planning.forecast import Forecast, Stage, forecast
from gc_core.planning.prices import Prices, read_prices
from gc_core.planning.rates import HOW_TO_MEASURE, Rates, read_rates, write_rates
from gc_core.planning.workload import Workload

__all__ = [
    "HOW_TO_MEASURE", "Bill", "Forecast", "Prices", "Rates", "Stage", "Workload", "bill", "forecast", "read_prices",
    "read_rates", "write_rates",
]  # fmt: skip
