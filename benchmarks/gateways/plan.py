"""How much of the gateways is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """A window is as long as `answers_per_client` take, from `window_s` to `longest_s` seconds.

    `slow_rounds` is for what takes minutes: overload, streams, two processes. `paced_tokens` are
    those of one paced answer, 50 a second.
    """

    rounds: int
    slow_rounds: int
    window_s: float
    longest_s: float
    answers_per_client: int
    paced_rounds: int
    paced_tokens: int
    memory_requests: int

    def window(self, clients: int, rate: float) -> float:
        """Seconds of a window for a gateway that made `rate` answers per second before."""
        if not rate:
            return self.longest_s
        wanted = self.answers_per_client * clients / rate
        return min(max(wanted, self.window_s), self.longest_s)


FULL = Plan(5, 3, 5.0, 60.0, 6, 3, 1500, 100_000)
QUICK = Plan(3, 2, 2.0, 20.0, 3, 1, 600, 1000)
