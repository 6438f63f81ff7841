"""What tests of rows say, and how they read it."""

from __future__ import annotations

from collections import Counter

from guildgpt.chat import Message
from guildgpt.data import forms
from guildgpt.data.notes import Notes

Q, A, B = Message("user", "Why?"), Message("assistant", "So."), Message("assistant", "Dunno.")
SYSTEM = Message("system", "Be brief.")
DEEP = (Q, A, Message("user", "And then?"))


def read(path) -> tuple[list[forms.Item], Counter[str]]:
    notes = Notes()
    return list(forms.read(path, name="mine", notes=notes)), notes.skipped


def dicts(*messages: Message) -> list[dict[str, str]]:
    return [message.as_dict() for message in messages]
