"""What the fields of constraints are drawn from."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# One that must occur.
WORDS = _words("""
    river window careful morning bridge simple letter winter quietly honest garden remember useful
    market travel pattern wooden gentle promise mirror yellow journey harvest neighbour shadow
    practice balance curious blanket signal corner borrow island lantern thread patient whisper
    season copper village steady kitchen ladder gather silver basket wander hollow distance engine
    feather button colour danger bottle memory reason question example together sometimes problem
    history weather money family music science health nature energy
""")
# One that must not: those that an answer would use without thinking.
COMMON_WORDS = _words("""
    and is it can very many also people often or with this that for are you one has some more most
    all but not as by be they their
""")
BEGINNINGS = (
    "Good question", "In short", "To begin with", "Here is", "Well", "First of all", "Imagine",
    "Dear reader", "Picture this", "Let me explain", "Most people", "Once upon a time", "Long ago",
    "Simply put", "As it happens", "Listen", "My answer", "There is", "Every day", "Let us see",
    "Believe it or not", "In my view", "Broadly speaking", "hello there", "to be brief", "you see",
    "At first sight", "For a start", "No doubt", "Hear me out",
)  # fmt: skip
ENDINGS = (
    "That is all.", "I hope this helps.", "Thank you for asking.", "Now you know.", "The end.",
    "So it goes.", "What do you think?", "Enjoy!", "Good luck!", "See you soon.", "Any questions?",
    "And that is the whole story.", "Have a nice day.", "Keep it in mind.", "Ask me for more.",
    "this is the end", "nothing more to say", "that is my answer", "Over and out.", "Case closed.",
    "Is there anything else?", "Take care.", "You are welcome.", "Try it yourself.",
)  # fmt: skip
KEYS = (
    "answer", "summary", "title", "reason", "topic", "example", "note", "name", "text", "advice",
    "details", "source", "tip", "kind", "use", "place", "opinion", "question", "result", "comment",
)  # fmt: skip
