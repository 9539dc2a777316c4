"""`isocenter download --verify`: what is on disk, held against what was fetched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.transfer.manifest import Manifest
from isocenter.transfer.series import INDEX
from isocenter.transfer.verify import Verdict, series_below, verify_many

if TYPE_CHECKING:
    from isocenter.cli_transfer import Display


async def verify_download(shown: Display, root: Path, uids: Collection[str], filters: Mapping[str, str]) -> int:
    """Verify all series below `root`, or those named, and tell; the exit code is 1 when something is damaged or missing."""
    from isocenter.cli_transfer import MANIFEST

    verdicts: list[Verdict] = []

    def told(one: Verdict) -> None:
        verdicts.append(one)
        shown.advance(1)
        where = one.folder.relative_to(root).as_posix()
        if one.damaged == (INDEX,):
            text = f"damaged {one.series_uid}  {where}: no {INDEX} that can be read"
        elif one.damaged:
            names = "".join(f"\n  {name}" for name in one.damaged)
            text = f"damaged {one.series_uid}  {where}: {len(one.damaged)} of {one.files} files{names}"
        else:
            text = f"whole   {one.series_uid}  {one.files} files"
        shown.event(
            "series",
            text,
            bad=bool(one.damaged),
            series_uid=one.series_uid,
            state="damaged" if one.damaged else "whole",
            folder=where,
            files=one.files,
            bytes=one.bytes,
            damaged=list(one.damaged),
        )

    rows = []
    if (root / MANIFEST).exists():
        with Manifest(root / MANIFEST) as manifest:
            rows = list(manifest.rows())
    series = list(series_below(root, rows, only=uids, filters=filters))
    shown.begin(f"{len(series)} series", len(series))
    await verify_many(series, told)
    bad = sum(bool(one.damaged) for one in verdicts)
    files = sum(len(one.damaged) for one in verdicts)
    again = " The next download fetches them again." if bad else ""
    shown.event(
        "end",
        f"{len(verdicts) - bad} series are whole, {bad} are not ({files} files damaged or missing).{again}",
        whole=len(verdicts) - bad,
        damaged=bad,
        files=files,
    )
    return 1 if bad else 0
