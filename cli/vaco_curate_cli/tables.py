"""Tables that several commands show."""

from __future__ import annotations

from rich.table import Table

from vaco_curate.curation.summary import QUANTILES, Summary
from vaco_curate_cli.display import number_text, table


def summary_table(before: Summary, after: Summary) -> Table:
    """The before/after table of a selection."""
    made = table("", "", "before", "after")
    rows: list[tuple[str, float, float]] = [
        ("rows", before.rows, after.rows),
        ("episodes", before.episodes, after.episodes),
        ("mean episode return", before.return_mean, after.return_mean),
    ]
    for number, quantile in enumerate(QUANTILES):
        label = f"  {quantile:.0%} quantile"
        rows.append((label, before.return_quantiles[number], after.return_quantiles[number]))
    rows.append(("effective rows", round(before.effective_sample_size), round(after.effective_sample_size)))
    for label, left, right in rows:
        made.add_row(label, number_text(left), number_text(right))
    made.add_row("effective episodes", f"{before.effective_episodes:,.1f}", f"{after.effective_episodes:,.1f}")
    return made
