"""What checking costs: a 25 MB answer against parsing alone, a small call in microseconds, compiling, and other validators.

`python tests/bench/bench_validation.py`, about 30 seconds. Times are of the processor, medians of interleaved rounds; trust the ratios.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # only measured here
import msgspec
import orjson
from pydantic import TypeAdapter

import isocenter_clients
from isocenter.core import Contract, Operation
from isocenter.core.schema import lookup
from isocenter_clients.tcia.models import Series

JSON = "application/json"


def rows(operation: Operation, size: int, **changes: object) -> bytes:
    """A getSeries answer of about `size` bytes, made from the row of the specification's example."""
    row = lookup(operation.contract.document, "/components/examples/SeriesRowsJson/value")[0]
    count = max(1, size // len(orjson.dumps(row)))
    uid = row["SeriesInstanceUID"][:40]
    return orjson.dumps(
        [
            {**row, "SeriesInstanceUID": f"{uid}.{number + 1}", "ImageCount": number % 400, **changes}
            for number in range(count)
        ]
    )


def medians(rounds: int, **tasks: Callable[[], object]) -> dict[str, float]:
    """Seconds per task."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.process_time()
            result = task()
            times[name].append(time.process_time() - started)
            del result
    return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, seconds: dict[str, float], against: str) -> None:
    """One line per task: milliseconds and the multiple of the floor."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name.replace('_', ' '):<44} {value * 1e3:>10.2f} ms {value / seconds[against]:>9.2f} x")


def main() -> None:
    contract = isocenter_clients.contract("tcia")
    series = contract.operation("getSeries")
    large, drifted = rows(series, 25_000_000), rows(series, 25_000_000, NewColumn=1)

    table(
        f"getSeries, {len(large) / 1e6:.1f} MB (goal: Operation.read at most 2.0 x)",
        medians(
            7,
            orjson_loads_alone=lambda: orjson.loads(large),
            msgspec_decode_alone=lambda: msgspec.json.decode(large),
            Operation_read=lambda: series.read(200, JSON, large),
        ),
        "orjson_loads_alone",
    )
    table(
        "the same with an undocumented column in every row",
        medians(
            2,
            orjson_loads_alone=lambda: orjson.loads(drifted),
            Operation_read=lambda: series.read(200, JSON, drifted),
        ),
        "orjson_loads_alone",
    )

    arguments, small = {"Collection": "Phantom-Lung", "Modality": "CT"}, rows(series, 1)

    def times_1000(task: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(1000):
                task()

        return run

    print(f"\nOne small call, 2 arguments and an answer of {len(small)} bytes (goal: check and read below 30 µs)")
    calls = medians(
        9,
        check=times_1000(lambda: series.check(arguments)),
        request=times_1000(lambda: series.request("", arguments)),
        read=times_1000(lambda: series.read(200, JSON, small)),
    )
    calls["check and read"] = calls["check"] + calls["read"]
    for name, value in calls.items():
        print(f"  {name:<44} {value * 1e3:>10.1f} µs")

    print("\nContracts: reading, the first check (with the judging document), every judge")
    for api, module in isocenter_clients.APIS.items():
        content = files(f"isocenter_clients.{module}").joinpath("contract.json").read_bytes()
        spent: list[tuple[float, ...]] = []
        for _ in range(5):
            moments = [time.process_time()]
            fresh = Contract.loads(content)
            moments.append(time.process_time())
            next(iter(fresh.operations.values())).check({})
            moments.append(time.process_time())
            fresh.compile()
            moments.append(time.process_time())
            spent.append(tuple((after - before) * 1e3 for before, after in itertools.pairwise(moments)))
        load, check, judges = (statistics.median(column) for column in zip(*spent, strict=True))
        print(f"  {api:<14}{len(fresh.operations):>3} operations {load:>7.1f} ms {check:>7.1f} ms {judges:>7.1f} ms")

    body = rows(series, 300_000)
    pydantic_rows: TypeAdapter[Any] = TypeAdapter(list[Series])
    answer = next(content for content in series.answers["200"].contents if content.media_type == JSON)
    schema = {"$ref": f"#{answer.schema}", **{key: contract.document[key] for key in ("components", "paths")}}
    pure = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    table(
        f"Other validators, {len(body) / 1e6:.2f} MB",
        medians(
            3,
            orjson_loads_alone=lambda: orjson.loads(body),
            Operation_read=lambda: series.read(200, JSON, body),
            Operation_read_and_pydantic_models=lambda: pydantic_rows.validate_python(series.read(200, JSON, body).data),
            pydantic_validate_json=lambda: pydantic_rows.validate_json(body),
            jsonschema_iter_errors=lambda: list(pure.iter_errors(orjson.loads(body))),
        ),
        "orjson_loads_alone",
    )


if __name__ == "__main__":
    main()
