"""Everything the bot says of its own accord: short, friendly, and never technical."""

from __future__ import annotations

import re
from collections.abc import Sequence

from guildgpt.bot.text.files import Kind
from guildgpt.bot.text.shown import answer_text
from guildgpt.feedback.records import AbuseReport, Consent, Stats
from guildgpt.talk.fitting import Room

EMPTY = "Ask me something: write it after my name, or use /ask."
CANNOT_SEE: dict[Kind, str] = {
    "picture": "I cannot see pictures. Tell me in words what you would like to know.",
    "video": "I cannot see videos. Tell me in words what you would like to know.",
    "recording": "I cannot hear recordings. Please write to me what you would like to know.",
    "sticker": "I cannot see stickers. Tell me in words what you would like to know.",
    "file": "I can only read text, and there is none in that file that I can read.",
}
NO_WORDS = "I have no answer to that. Could you put it another way?"
ENGINE_DOWN = "I cannot think at the moment. Please try again in a minute."
STORE_DOWN = "I cannot take notes at the moment. Please try again in a minute."
OTHER_CHANNEL = "I do not answer in this channel. /help says more."
NOT_YOURS = "Only the person who asked can do that."
NOTHING_TO_RETRY = "There is no question of yours here that I could answer again."
NOTHING_TO_STOP = "There is nothing to stop: I have finished."
STOPPED = "Stopped."
RECORD_GONE = "That answer is too old: I no longer have it."
WRONG_PLACE = "That vote belongs to another message."
NO_TEXT = "There is no text in that message that I could read."
ASK_AGAIN = "I was interrupted, and had kept nothing of your question. Please ask it again."
NO_TOPIC = "I see no words in that topic. What shall we talk about?"
NO_THREAD = "I could not open a thread. Please try again in a minute."
THREAD_ALREADY = "This is a thread already: mention me here, or reply to me."
NO_THREADS_IN_VOICE = (
    "There are no threads in voice channels. Mention me here, or use /chat in a text channel."
)
TOO_MANY_THREADS = (
    "This server has as many open threads as Discord allows. Once some are closed, I can open one."
)
TITLE_BLOCKED = (
    "This server's filter does not let that title through. Could you put it another way?"
)
NEED_MENTION = (
    "I can only read messages that mention me here: write my name, reply to me, or use /ask."
)
NEED_MY_NAME = (
    "You called my role, and Discord does not let me read such a message. Please mention me by my "
    "name, or use /ask."
)
CONSENT_NONE = (
    "You asked me to keep nothing of yours, so I cannot keep this either. /privacy changes that."
)
RATED_UP = "Thank you, noted: 👍"
RATED_DOWN = "Thank you, noted: 👎"
REASON_NOTED = "Thank you, that helps."
REPORTED = "Thank you. The people who run me and the admins here will see it."
REPORTED_UNNAMED = f"{REPORTED} As you want, I keep neither your name nor a reason."
NO_REPORTS = "There is nothing to look at: no reports, or all are done."
NOT_ADMIN = "Only admins of this server can do that."
LOOKED_AT = "✅ Somebody has looked at this."
VOTED = {
    "left": "Noted: the left one is better.",
    "right": "Noted: the right one is better.",
    "a": "Noted: A is better.",
    "b": "Noted: B is better.",
    "tie": "Noted: both are equally good.",
    "both_bad": "Noted: neither is good.",
}
SYSTEM_BLANK = "I see no words in that text. To go back to my usual instructions, choose reset."
SYSTEM_UNCHECKED = (
    "I cannot think at the moment, so I cannot see whether that text leaves room for questions. "
    "Nothing has changed. Please try again in a minute."
)
QUESTION_TOO_LONG = "I cannot take in that question. Could you make it shorter?"
FORGET_ASK = (
    "This deletes everything I keep about you: your questions, my answers to them, your ratings "
    "and votes. It cannot be undone. Messages in Discord itself stay; you can delete those there."
)
FORGET_KEPT = "Nothing was deleted."
WITHHELD = "This server's rules did not let my answer pass."
MAY_NOT_GO_ON = "I may not write here any more, so this is where my answer ends."
NOT_TAKEN = "Discord did not take my answer. Please ask me again."
NOTHING_KEPT = "I keep nothing of you."
DATA_NOT_TAKEN = (
    "Discord did not take the file. Please try again; else ask the people who run me for it."
)
FAILED = "Something went wrong on my side. Please try again."

HELP = """\
**Talking to me**: mention me (in a reply, I read that message too), reply to one of my messages, \
write me directly, or use
`/ask` a question · `/chat` in a thread of its own · `/retry` answer again · `/stop` stop answering
`/compare` two answers: you say which is better · `/prompt` one for rounds in which all vote
Right-click a message → Apps → *Ask about this*
Under my answers: 👍 👎 tell me how they were · 🔁 another try · 🚩 report to the people who run me

`/privacy` what I keep, and a copy · `/forget-me` have it deleted · `/stats` what people think
For admins: `/system` how I should behave here · `/settings` where I answer, and whether I ask for \
opinions · `/reports` what was reported · `/rounds` two blind answers to vote on

I am a small language model. I make mistakes: check what matters."""


def privacy(consent: Consent, days: int, operator_trains: bool) -> str:
    """What is kept of the member who asks, and what they may choose."""
    kept = {
        "none": "You chose **none**: I keep nothing of what you write, and cannot keep votes.",
        "chat": "You chose **chat** (the default): I keep our conversations so that I can follow "
        "them. Your words are never used to train a model.",
        "train": "You chose **train**: I keep our conversations, and your words may be used to "
        "improve me."
        if operator_trains
        else "You chose **train**, but the people who run me do not train on members' words, so "
        "they are not used.",
    }[consent]
    return (
        f"{kept}\nWhat I keep is deleted after {days} days. I know you by a code, not by your "
        "name or number. Ratings and votes are kept as numbers about my own answers, to learn from."
        "\nDiscord's Developer Policy (rule 21) forbids training models on message content without "
        "Discord's permission; so training on your words needs your choice *and* that of the "
        "people who run me.\n`/privacy consent:` changes your choice, the button gives you all of "
        "it as a file, `/forget-me` deletes everything now."
    )


def your_data(files: int) -> str:
    """What is kept of a member, attached."""
    many = f" It comes in {files} files." if files > 1 else ""
    return (
        "This is everything I keep of you: what you wrote to me and what I answered, your ratings, "
        f"votes and reports, and your choice. Only you see it.{many}"
    )


def here(thread: str) -> str:
    """Where the conversation goes on."""
    return f"Here: {thread}"


def chat_with(name: str) -> str:
    """The name of a thread without a topic."""
    return f"A chat with {name}"


def lacking(permissions: Sequence[str]) -> str:
    """Why there is no thread, by Discord's names of the permissions."""
    named = " and ".join(f"**{name}**" for name in permissions)
    many = "s" * (len(permissions) > 1)
    return (
        f"I cannot open a thread here: I lack the permission{many} {named}. "
        "The people who run this server can give it to me."
    )


def rules(channels: Sequence[str], feedback: bool, *, emptied: bool = False) -> str:
    """What an admin has set; `emptied`: the only channels on the list were deleted in Discord."""
    where = ", ".join(channels) or "every channel"
    because = " (the channels you had chosen were deleted)" if emptied else ""
    return f"I answer in {where}{because}; opinions: {'on' if feedback else 'off'}."


def reports_go(channel: str | None) -> str:
    """Where new reports are told."""
    return f"New reports go to {channel}." if channel else "New reports are told nowhere."


def reports(shown: Sequence[AbuseReport], count: int) -> str:
    """Some of the reports that nobody has looked at, of so many."""
    if not shown:
        return NO_REPORTS
    lines = [f"**{count} report{'s' * (count != 1)}** to look at, newest first; ✅ takes one off."]
    lines += [f"**{number}.** {_report(one)}" for number, one in enumerate(shown, start=1)]
    return "\n".join(lines)


def new_report(report: AbuseReport) -> str:
    """Somebody has reported an answer."""
    return f"🚩 Somebody finds an answer of mine wrong. {_report(report)}"


def _report(report: AbuseReport) -> str:
    when = f"<t:{int(report.created_at.timestamp())}:R>"
    text = _beginning(report.text, 120) or "(The answer is no longer kept.)"
    reason = f"\nReason: {_beginning(report.reason, 200)}" if report.reason else ""
    return f"{when} {report.link or '(its place is not known)'}\n> {text}{reason}"


def _beginning(text: str, most: int) -> str:
    """On one line, without marks that would format what stands around it."""
    line = " ".join(re.sub(r"[`*_~|<>\\]", "", text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def not_listed(channel: str) -> str:
    """There is nothing to take off the list."""
    return f"{channel} was not on my list."


def system_set(channel_id: int | None) -> str:
    """A system text holds from now on."""
    return f"From now on I follow that {_where(channel_id)}."


def system_cleared(channel_id: int | None) -> str:
    """There is none of its own any more."""
    general = "what holds in this server" if channel_id else "my usual instructions"
    return f"From now on I follow {general} again {_where(channel_id)}."


def system_too_long(room: Room) -> str:
    """A system text leaves no room for questions."""
    return f"I cannot follow that text: {_in_tokens(room)}. Nothing has changed."


def system_now(
    text: str | None, channel_id: int | None, others: Sequence[int], problem: Room | None
) -> str:
    """The text that was set for a channel or the whole guild; the text itself comes last."""
    said = []
    if others:
        said.append(f"Of their own have instructions: {', '.join(f'<#{id}>' for id in others)}.")
    if problem:
        said.append(f"⚠️ I do not follow it but what is more general: {_in_tokens(problem)}.")
    if text is None:
        general = "what holds in this server" if channel_id else "my usual instructions"
        said.append(f"No text is set {_where(channel_id)}: I follow {general}.")
    else:
        said.append(f"What I am told {_where(channel_id)}:\n>>> {text}")
    return "\n".join(said)


def _where(channel_id: int | None) -> str:
    return f"in <#{channel_id}>" if channel_id else "here"


def _in_tokens(room: Room) -> str:
    return (
        f"it takes {room.takes:,} of the {room.context:,} tokens I can hold. An answer needs "
        f"{room.answer:,} of them and a question {room.question:,}, so a text may take "
        f"{room.may_take:,}: about {room.may_take / room.takes:.0%} of yours"
    )


def busy(seconds: float) -> str:
    """The queue is full."""
    return f"Many people are asking at once. Please try again in {_in_words(seconds)}."


def too_many(seconds: float) -> str:
    """One member asks too much."""
    return f"One thing after another, please: ask again in {_in_words(seconds)}."


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} seconds"
    return f"{round(seconds / 60)} minutes"


def with_guesses(shown: str, guesses: Sequence[tuple[str, str]]) -> str:
    """An answer, and below it small how the files of its question were read."""
    notes = [f"\n-# I read {name} as {encoding}." for name, encoding in guesses]
    return answer_text(shown) + "".join(notes)


def side_by_side(left: str, right: str) -> str:
    """Two answers to choose between."""
    return (
        f"**Left**\n{answer_text(left)}\n\n**Right**\n{answer_text(right)}\n\n"
        "*Which one is better?*"
    )


def stats(counts: Stats) -> str:
    """The store's counts for /stats."""
    return (
        f"**{counts.answers}** answers in {counts.conversations} conversations\n"
        f"👍 {counts.up} · 👎 {counts.down}\n"
        f"{counts.comparisons} comparisons, {sum(counts.votes.values())} votes"
    )


def forgotten(rows: int, versions: int) -> str:
    """What /forget-me did."""
    learned = (
        f" {versions} version{'s' if versions != 1 else ''} of me had learned from some of it; the "
        "people who run me have them listed."
        if versions
        else ""
    )
    return f"Done: {rows} record{'s' if rows != 1 else ''} deleted.{learned}"
