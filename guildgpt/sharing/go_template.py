"""A chat template in Go's template language, as Ollama reads it.

https://pkg.go.dev/text/template, https://docs.ollama.com/modelfile#template. Ollama gives the
messages as `.Messages`, joins neighbours of one role, and asks for an answer each time: a last
message of the assistant's is the beginning of one. Lines break within the braces, where a break is
not written.

What the language has no word for: to take whitespace off a message's ends, as some templates do.
"""

from __future__ import annotations

import json

from guildgpt.chat import ChatTemplate
from guildgpt.chat.template import JOINT
from guildgpt.chat.turn import Turn

_LAST = "eq (len $rest) 1"
_BEFORE_A_QUESTION = '(gt (len $rest) 1) (eq (index $rest 1).Role "user")'


def in_go(template: ChatTemplate, *, begins: bool = False) -> str:
    """The template's text. `begins` says that what begins a sequence is put there by whoever
    tokenizes the text, as llama.cpp does where a GGUF asks for it: here it is left out then."""
    opening = _text("" if begins else template.begin)
    if template.without_system:
        opening += _if(_without_system(template), _text(template.without_system))
    each = _do("$rest := slice $.Messages $i")  # this message and those after it
    each += _do('if eq $m.Role "system"') + _system(template)
    each += _do('else if eq $m.Role "user"') + _question(template)
    each += _do('else if eq $m.Role "assistant"') + _answer(template) + _do("end")
    if asks := _text(template.assistant.opening):
        each += _if(f'and ({_LAST}) (ne $m.Role "assistant")', asks)
    waits = _do('$waits := ""') if _folds(template) else ""
    return waits + opening + _do("range $i, $m := .Messages") + each + _do("end")


def _folds(template: ChatTemplate) -> bool:
    """Whether there are system texts that it writes with the next question."""
    return not (template.system_turn and template.later_system and not template.after_system)


def _without_system(template: ChatTemplate) -> str:
    """The condition that no turn of the system's opens a conversation."""
    if template.system_turn is None:
        return "true"
    first = '(gt (len .Messages) 0) (eq (index .Messages 0).Role "system")'
    if template.after_system:
        first += ' (gt (len .Messages) 1) (eq (index .Messages 1).Role "user")'
    return f"not (and {first})"


def _system(template: ChatTemplate) -> str:
    """A system text where it stands, or kept for the question after it."""
    kept = _if(
        f"and {_BEFORE_A_QUESTION}",
        _do(f"$waits = print $m.Content {_quoted(JOINT)}"),
        _turn(template.user),
    )
    first = _turn(template.system_turn) if template.system_turn else kept
    later = _turn(template.later_system) if template.later_system else kept
    if first == later:
        return first
    only = f"and (eq $i 0) {_BEFORE_A_QUESTION}" if template.after_system else "eq $i 0"
    return _if(only, first, later)


def _question(template: ChatTemplate) -> str:
    written = _turn(template.user, waits=_folds(template))
    if template.after_system:
        opens = 'and (eq $i 1) (eq (index $.Messages 0).Role "system")'
        written = _if(opens, _turn(template.after_system), written)
    return written + (_do('$waits = ""') if _folds(template) else "")


def _answer(template: ChatTemplate) -> str:
    """An answer; the last one is open, for the model goes on with it."""
    opening = _text(template.assistant.opening)
    if template.earlier is not None:
        opening = _if(_LAST, opening, _text(template.earlier))
    if lead := template.lead:  # a model's own answers begin with it
        size = len(lead.encode())
        there = f"and (ge (len $m.Content) {size}) (eq (slice $m.Content 0 {size}) {_quoted(lead)})"
        opening += _if(f"not ({there})", _text(lead))
    return opening + "{{ $m.Content }}" + _if(f"not ({_LAST})", _text(template.assistant.closing))


def _turn(turn: Turn, *, waits: bool = False) -> str:
    kept = "{{ $waits }}" if waits else ""
    return f"{_text(turn.opening)}{kept}{{{{ $m.Content }}}}{_text(turn.closing)}"


def _if(condition: str, then: str, otherwise: str = "") -> str:
    middle = _do("else") + otherwise if otherwise else ""
    return _do(f"if {condition}") + then + middle + _do("end")


def _do(action: str) -> str:
    """An action, after which the line breaks."""
    return f"{{{{ {action}\n}}}}"


def _text(text: str) -> str:
    """Text that is written as it is; quoted where template or Modelfile would misread it."""
    plain = text.replace("\n", "").isprintable() and '"""' not in text
    return text if plain and "{{" not in text and not text.endswith("{") else _quote(text)


def _quote(text: str) -> str:
    return f"{{{{ {_quoted(text)} }}}}"


def _quoted(text: str) -> str:
    """The text between quotation marks, for Go."""
    return json.dumps(text, ensure_ascii=False)
