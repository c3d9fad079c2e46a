"""The metrics of several processes as one page, on which a counter goes on counting when its process was replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# What of an ended process is added to its successor's; a gauge ends with its process.
_COUNTED: Final = frozenset({"counter", "histogram"})


def read(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


class Totals:
    def __init__(self) -> None:
        self._ended: dict[int, list[Metric]] = {}

    def end(self, number: int, last: Iterable[Metric]) -> None:
        """A process has ended; ``last`` is the latest that is known of it."""
        counted = [family for family in last if family.type in _COUNTED]
        self._ended[number] = _sum(counted, self._ended.get(number, []))

    def page(self, living: Mapping[int, Iterable[Metric]]) -> list[Metric]:
        """Of all processes, by the label ``process``."""
        page: dict[str, Metric] = {}
        for number in sorted(living.keys() | self._ended.keys()):
            for family in _sum(living.get(number, ()), self._ended.get(number, ())):
                known = page.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "process": str(number)}, sample.value)
        return list(page.values())


class Page(Collector):
    """Families that are there already, for prometheus_client to write."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def text(self) -> bytes:
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def _sum(families: Iterable[Metric], ended: Iterable[Metric]) -> list[Metric]:
    summed = {family.name: family for family in ended}
    for family in families:
        before = summed.get(family.name)
        summed[family.name] = family if before is None else _added(family, before)
    return list(summed.values())


def _added(family: Metric, before: Metric) -> Metric:
    values = {(sample.name, *sorted(sample.labels.items())): sample for sample in before.samples}
    added = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        past = values.pop((sample.name, *sorted(sample.labels.items())), None)
        added.add_sample(sample.name, sample.labels, sample.value + (past.value if past else 0))
    for sample in values.values():
        added.add_sample(sample.name, sample.labels, sample.value)
    return added
