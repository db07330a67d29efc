"""`llasa download`: a published model into the hub's cache."""

from __future__ import annotations

from typing import Annotated

import typer

from llasa_cli.commands import options as flags
from llasa_cli.commands.report import Report, claim_stdout, result
from llasa_cli.settings import BUILT_IN_MODEL


def download(
    name: Annotated[
        str | None, typer.Argument(help="1b, 3b, 8b, ..., or org/repo[@revision]; none lists them.", show_default=False)
    ] = None,
    with_codec: Annotated[bool, typer.Option("--codec/--no-codec", help="Fetch the codec it needs as well.")] = True,
    quiet: flags.Quiet = False,
) -> None:
    """Fetch a published model. Their weights are non-commercial; sizes and licence are said first."""
    from llasa_cli.hub.catalogue import CATALOGUE, entry_of, repo_of, size_text

    claim_stdout()
    if name is None:
        for short, entry in CATALOGUE.items():
            result(f"{short:<16}{size_text(entry.size):>9}  {entry.repo}  {entry.what}; {entry.license}")
        return
    from llasa_cli.hub.cache import BUILT_IN_FOLDER

    if name == BUILT_IN_MODEL:
        result(str(BUILT_IN_FOLDER))
        return
    from llasa_cli.hub.download import check_room, fetch, plan

    names = [name]
    found_repo = repo_of(name)
    known = entry_of(found_repo[0]) if found_repo else None
    if with_codec and known is not None and known.codec is not None:
        names.append(known.codec)
    with Report(quiet) as report:
        plans = []
        for wanted in names:
            report.stage(f"asking for {wanted}")
            plans.append(plan(wanted))
        for found in plans:
            there = "" if found.missing else ", already here"
            report.line(f"{found.repo}: {size_text(found.size)}, licence {found.license}{there}")
        check_room(plans)
        for found in plans:
            report.stage(f"fetching {found.repo}")
            result(str(fetch(found, quiet)))
