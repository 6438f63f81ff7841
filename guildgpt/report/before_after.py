"""Before and after in words, as table rows, and as the terminal's table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import NamedTuple

from rich.table import Column, Table
from rich.text import Text

from guildgpt.evaluate.head_to_head import HeadToHead, verdict_sentence
from guildgpt.evaluate.kept import KeptShare, kept_sentence
from guildgpt.evaluate.samples import SampleMeasures
from guildgpt.report.report import HeldOut, PreferenceReport, Report
from guildgpt.text.figures import NONE, decimals, percent, sign, signed, visible

SCORERS = {"reward": "The reward model", "judge": "The judge"}  # by stage


class FigureRow(NamedTuple):
    """One figure before and after; `better` is None where neither direction is the better one."""

    measure: str
    before: str
    after: str
    change: str
    better: bool | None = None
    base: str = NONE  # where before is a fine-tuned base


def columns(report: Report) -> list[str]:
    """What the models are called whose answers and figures stand side by side."""
    if has_base(report):
        return ["base", "fine-tuned", "with feedback"]
    return ["before", "after"]


def has_base(report: Report) -> bool:
    """Whether the base stands beside the two models that the last stage is about."""
    probed = any(probe.base for probe in report.probes)
    return bool(report.samples_base) or probed or any(one.base for one in report.kept)


def headline(report: Report) -> list[str]:
    """The run in a few plain sentences, the main figures first, good news and bad alike."""
    sentences = []
    if report.head_to_head:
        sentences += head_to_head_sentences(report.head_to_head)
    if report.samples_after:
        sentences.append(_answered(report.samples_before, report.samples_after))
    sentences += [
        kept_sentence(one.name, one.after, one.change) for one in report.kept if one.after
    ]
    scored = groupby(report.preferences, lambda one: one.stage)
    sentences += [_scorer(stage, of) for stage, of in scored]
    origin = "model" if report.head_to_head else "base"
    for verb, judgement in (
        ("fell", ""),
        ("stayed", ""),
        ("rose", f", so there it predicts worse than the {origin} it came from"),
    ):
        moves = [_moved(h) for h in report.held_out if h.verb == verb]
        if moves:
            sentences.append(f"Held-out bits per byte {verb} {' and '.join(moves)}{judgement}.")
    if not report.head_to_head and report.held_out:  # without feedback they are the main figures
        sentences.sort(key=lambda one: not one.startswith("Held-out"))
    return sentences or ["Nothing was measured on held-out rows both before and after training."]


def head_to_head_sentences(result: HeadToHead) -> list[str]:
    """The judge's verdict, what became of the reward, and how far the model moved."""
    sentences = []
    if result.verdicts:
        sentences += [verdict_sentence(result.verdicts), result.judge_words]
    if result.reward_before is not None and result.reward_after is not None:
        sentences.append(_rewarded(result, result.reward_before, result.reward_after))
    elif result.kl is not None:
        sentences.append(f"It moved {_nats(result.kl)} from the model it came from.")
    return sentences


def held_out_rows(report: Report) -> list[FigureRow]:
    """Bits per byte of each held-out source."""
    better: dict[str | None, bool] = {"fell": True, "rose": False}
    return [
        FigureRow(
            f"bits per byte, {h.source}",
            decimals(h.bits_before),
            decimals(h.bits_after),
            signed(h.change),
            better.get(h.verb),
        )
        for h in report.held_out
    ]


def head_to_head_rows(report: Report) -> list[FigureRow]:
    """The judge's verdict, the reward and the distance; nothing where no two models met."""
    result = report.head_to_head
    if result is None:
        return []
    rows = []
    if v := result.verdicts:
        change = signed(v.controlled - 0.5, " points")
        between = f"{percent(v.controlled_low)} to {percent(v.controlled_high)}"
        name = f"wins under the judge ({between})"
        rows.append(FigureRow(name, percent(0.5), percent(v.controlled), change, v.favours))
    if result.reward_before is not None and result.reward_after is not None:
        move = result.reward_after - result.reward_before
        figures = sign(result.reward_before), sign(result.reward_after), sign(move)
        rows.append(FigureRow("reward, held-out prompts", *figures, move > 0 if move else None))
    if result.kl is not None:
        rows.append(FigureRow("KL, nats an answer", decimals(0, 1), decimals(result.kl, 1), NONE))
    return rows


def sample_rows(report: Report) -> list[FigureRow]:
    """The measures of the sampled answers, or nothing where none were sampled."""
    measured = (report.samples_base, report.samples_before, report.samples_after)
    first, before, after = (asdict(one) if one else {} for one in measured)
    if not (before or after):
        return []
    rows = []
    for name, key, wanted in (
        ("ends its turn by itself", "end_of_turn_rate", 1),
        ("runs into a loop", "loop_rate", -1),
    ):
        was, now = before.get(key), after.get(key)
        move = None if was is None or now is None else now - was
        better = move * wanted > 0 if move else None
        shown = percent(was), percent(now), signed(move, " points")
        rows.append(FigureRow(name, *shown, better, percent(first.get(key))))
    for name, key, digits in (
        ("distinct tokens", "distinct_1", 3),
        ("distinct pairs", "distinct_2", 3),
        ("distinct triples", "distinct_3", 3),
        ("tokens, mean", "tokens_mean", 1),
        ("tokens, median", "tokens_median", 1),
        ("tokens, 90th percentile", "tokens_p90", 1),
    ):
        was, now = before.get(key), after.get(key)
        change = signed(now / was - 1) if was and now is not None else NONE
        figures = decimals(was, digits), decimals(now, digits), change
        rows.append(FigureRow(name, *figures, base=decimals(first.get(key), digits)))
    return rows


def kept_rows(report: Report) -> list[FigureRow]:
    """Constraints kept of each set: all of a prompt, and each."""
    rows = []
    for one in report.kept:
        for name, key in (("all of a prompt", "all_kept"), ("each", "each_kept")):
            shares: list[KeptShare | None] = [
                getattr(figures, key) if figures else None
                for figures in (one.base, one.before, one.after)
            ]
            base, was, now = (percent(share.rate if share else None) for share in shares)
            moved, better = _share_moved(getattr(one.change, key) if one.change else None)
            title = f"constraints of {one.name} kept, {name}"
            rows.append(FigureRow(title, was, now, moved, better, base))
    return rows


def _share_moved(change: KeptShare | None) -> tuple[str, bool | None]:
    """A change with its interval, and whether it is one for the better."""
    if change is None:
        return NONE, None
    between = f"{signed(change.low, '')} to {signed(change.high, '')}"
    better = None if change.low <= 0 <= change.high else change.rate > 0
    return f"{signed(change.rate, ' points')} ({between})", better


def summary_table(report: Report) -> Table:
    """Before and after for the terminal: the judge's verdict, held-out bits, sample measures."""
    headings = [*columns(report), "change"]
    table = Table(
        "measure",
        *(Column(heading, justify="right") for heading in headings),
        title=Text(visible(report.title)),
    )
    rows = head_to_head_rows(report) + held_out_rows(report) + sample_rows(report)
    for row in rows + kept_rows(report):
        style = "" if row.better is None else "green" if row.better else "red"
        after, change = Text(row.after, style=style), Text(row.change, style=style)
        first = [row.base] if has_base(report) else []
        table.add_row(Text(visible(row.measure)), *first, row.before, after, change)
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
        more = "more than the " if after.loop_rate > before.loop_rate else ""
        loops += f" ({more}{before.loop_rate:.0%} before)"
    return f"Of {after.answers:,} sampled answers {ends}; {loops}."


def _rewarded(result: HeadToHead, before: float, after: float) -> str:
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    moved = f"{verb} from {sign(before)} to {sign(after)}"
    far = f", {_nats(result.kl)} from the model it came from" if result.kl is not None else ""
    doubt = ""
    if after > before and result.verdicts and result.verdicts.favours is not True:
        doubt = "; the judge, which it was not trained against, does not confirm that gain"
    return f"The reward it was trained for {moved} on held-out prompts{far}{doubt}."


def _nats(kl: float) -> str:
    return f"{decimals(kl, 1)} nats an answer (KL)"


def _scorer(stage: str, preferences: Iterable[PreferenceReport]) -> str:
    name = SCORERS.get(stage, stage)
    parts = []
    for one in preferences:
        f = one.figures
        length = percent(f.by_length)
        parts.append(
            f"{percent(f.accuracy)} of {f.pairs:,} held-out pairs of {one.source} in the right "
            f"order (95% interval {percent(f.low)} to {percent(f.high)}; "
            + (
                f"length alone {length}, chance 50%)"
                if f.beats_length
                else f"length alone gives {length}, so it is not clearly better than that)"
            )
            + (f"; {f.further}" if f.further else "")
        )
    return f"{name} puts {' and '.join(parts)}."
