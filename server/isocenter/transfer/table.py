"""Tables of what became of series, one row each, as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from isocenter.core import StorageError

KINDS = (".csv", ".jsonl", ".parquet")
NUMBERS = ("files", "bytes", "tries")  # columns that hold no text
AT_ONCE = 10_000  # rows held in memory for Parquet


def export_table(rows: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> int:
    """Write the columns of all rows to a file of one of `KINDS` and return how many rows. The file appears when it is whole.

    Raises StorageError; Parquet needs pyarrow, which is not installed with Isocenter.
    """
    part = path.with_name(f".{path.name}.part")
    kind, count = path.suffix.lower(), 0
    if kind not in KINDS:
        raise StorageError(f"{path}: a table is written to a file that ends with {', '.join(KINDS)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == ".parquet":
            count = _parquet(rows, part, columns)
        else:
            with part.open("w", newline="" if kind == ".csv" else None, encoding="utf-8") as file:
                table = csv.DictWriter(file, columns, extrasaction="ignore")
                if kind == ".csv":
                    table.writeheader()
                for row in rows:
                    count += 1
                    if kind == ".csv":
                        table.writerow(row)
                    else:
                        told = {name: row[name] for name in columns if row.get(name) is not None}
                        file.write(json.dumps(told, ensure_ascii=False) + "\n")
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return count


def _parquet(rows: Iterable[Mapping[str, Any]], part: Path, columns: Sequence[str]) -> int:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise StorageError("Parquet needs the package pyarrow: pip install pyarrow, or name a .csv file.") from error
    schema = arrow.schema([(name, arrow.int64() if name in NUMBERS else arrow.string()) for name in columns])
    count, left = 0, iter(rows)
    with parquet.ParquetWriter(part, schema) as writer:
        while batch := list(islice(left, AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
