"""A template in Jinja, for `apply_chat_template` and llama.cpp; written here, never run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guildgpt.chat.template import ChatTemplate

# A system text is folded into the first question, as `ChatTemplate` does it.
_FOLD = (
    "{%- if messages and messages[0]['role'] == 'system' %}"
    "{%- if messages[1:] and messages[1]['role'] == 'user' %}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + "
    "messages[1]['content']}] + messages[2:] %}"
    "{%- else %}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content']}] + messages[1:] %}"
    "{%- endif %}{%- endif %}"
)


def in_jinja(template: ChatTemplate) -> str:
    """The template's text: the base's own where it has one, behind what it leaves out."""
    if not template.published:
        return _chatml(template)
    return _system(template.system) + _FOLD * (not template.system_turn) + template.published


def _system(text: str) -> str:
    """Puts a system turn before a conversation that has none."""
    if not text:
        return ""
    turn = f"{{'role': 'system', 'content': {json.dumps(text, ensure_ascii=False)}}}"
    return (
        "{%- if not messages or messages[0]['role'] != 'system' %}"
        f"{{%- set messages = [{turn}] + messages %}}"
        "{%- endif %}"
    )


def _chatml(template: ChatTemplate) -> str:
    opening, role, _ = template.user.opening.partition("user")
    assert role, "a template that is not ChatML's has a text of its own"
    closing = template.user.closing.removesuffix("\n")
    begin = f"{{{{ '{template.begin}' }}}}" if template.begin else ""
    system = ""
    if template.system:
        turn = f"{opening}system\n{template.system}{closing}\n"
        text = json.dumps(turn, ensure_ascii=False)
        system = "{% if messages[0]['role'] != 'system' %}{{ " + text + " }}{% endif %}"
    turns = (
        "{% for message in messages %}"
        f"{{{{ '{opening}' + message['role'] + '\\n' + message['content']"
        f" + '{closing}' + '\\n' }}}}"
        "{% endfor %}"
    )
    asking = f"{{% if add_generation_prompt %}}{{{{ '{opening}assistant\\n' }}}}{{% endif %}}"
    return begin + system + turns + asking
