"""Before and after in words, as table rows, and as the terminal's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guildgpt.evaluate.figures import NONE, decimals, percent, signed, visible

if TYPE_CHECKING:
    from rich.table import Table

    from guildgpt.evaluate.report import HeldOut, Report
    from guildgpt.evaluate.samples import SampleMeasures


class Compared(NamedTuple):
    """One figure before and after; `better` is None where neither direction is the better one."""

    measure: str
    before: str
    after: str
    change: str
    better: bool | None = None


def headline(report: Report) -> list[str]:
    """The run in a few plain sentences, the main figures first, good news and bad alike."""
    sentences = []
    for verb, judgement in (
        ("fell", ""),
        ("stayed", ""),
        ("rose", ", so there it predicts worse than the base it came from"),
    ):
        moves = [_moved(h) for h in report.held_out if h.verb == verb]
        if moves:
            sentences.append(f"Held-out bits per byte {verb} {' and '.join(moves)}{judgement}.")
    if not sentences:
        sentences.append("Nothing was measured on held-out rows both before and after training.")
    if report.samples_after:
        sentences.append(_answered(report.samples_before, report.samples_after))
    return sentences


def held_out_rows(report: Report) -> list[Compared]:
    """Bits per byte of each held-out source."""
    better: dict[str | None, bool] = {"fell": True, "rose": False}
    return [
        Compared(
            f"bits per byte, {h.source}",
            decimals(h.bits_before),
            decimals(h.bits_after),
            signed(h.change),
            better.get(h.verb),
        )
        for h in report.held_out
    ]


def sample_rows(report: Report) -> list[Compared]:
    """The measures of the sampled answers, or nothing where none were sampled."""
    before, after = report.samples_before, report.samples_after
    if not (before or after):
        return []
    rows = []
    for name, key, wanted in (
        ("ends its turn by itself", "end_of_turn_rate", 1),
        ("runs into a loop", "loop_rate", -1),
    ):
        was, now = getattr(before, key, None), getattr(after, key, None)
        move = None if was is None or now is None else now - was
        better = move * wanted > 0 if move else None
        rows.append(Compared(name, percent(was), percent(now), signed(move, " points"), better))
    for name, key, digits in (
        ("distinct tokens", "distinct_1", 3),
        ("distinct pairs", "distinct_2", 3),
        ("distinct triples", "distinct_3", 3),
        ("tokens, mean", "tokens_mean", 1),
        ("tokens, median", "tokens_median", 1),
        ("tokens, 90th percentile", "tokens_p90", 1),
    ):
        was, now = getattr(before, key, None), getattr(after, key, None)
        change = signed(now / was - 1) if was and now is not None else NONE
        rows.append(Compared(name, decimals(was, digits), decimals(now, digits), change))
    return rows


def summary_table(report: Report) -> Table:
    """Before and after for the terminal: held-out bits per byte and the sample measures."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(report.title)))
    table.add_column("measure")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for row in held_out_rows(report) + sample_rows(report):
        style = "" if row.better is None else "green" if row.better else "red"
        after, change = Text(row.after, style=style), Text(row.change, style=style)
        table.add_row(Text(visible(row.measure)), row.before, after, change)
    return table


def _moved(held_out: HeldOut) -> str:
    before, after = decimals(held_out.bits_before), decimals(held_out.bits_after)
    figures = f"at {after}" if before == after else f"from {before} to {after}"
    return f"{figures} on {held_out.source}"


def _answered(before: SampleMeasures | None, after: SampleMeasures) -> str:
    ends = f"it ended {after.end_of_turn_rate:.0%} by itself"
    loops = f"{after.loop_rate:.0%} ran into a loop"
    if before:
        ends += f" ({before.end_of_turn_rate:.0%} before)"
        loops += f" ({before.loop_rate:.0%} before)"
    return f"Of {after.answers:,} sampled answers {ends}; {loops}."
