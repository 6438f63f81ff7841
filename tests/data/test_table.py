"""Every line of the table of forms in docs/data.md is true."""

from __future__ import annotations

import pytest

from guildgpt.chat import Comparison, Conversation, Message, Rejected, Task
from guildgpt.data import forms
from guildgpt.data.notes import Notes
from guildgpt.data.table import FORMS, Form

KINDS = {
    "conversation": Conversation,
    "rejected": Rejected,
    "comparison": Comparison,
    "task": Task,
}


def speaker(message: Message) -> str:
    return message.role if message.trained else "not trained"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_is_read_as_the_table_says(write_lines, form: Form) -> None:
    notes = Notes()
    items = list(forms.read(write_lines("a.jsonl", [form.row]), name="a", notes=notes))
    if form.left_out:
        assert not items
        assert notes.skipped == {form.left_out: 1}
        return
    (item,) = items
    assert isinstance(item, KINDS[form.kind])
    said = [f"{speaker(message)}: {message.content}" for message in item.messages]
    if isinstance(item, Comparison):
        said[-2:] = [f"better: {item.answers[0].content}", f"worse: {item.answers[1].content}"]
    assert tuple(said) == form.reads
    assert not notes.skipped
    assert not notes.unread
    assert not notes.others
