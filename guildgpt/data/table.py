"""Every form of a row that is read, with an example: docs/data.md shows them, a test reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ASKED = {"role": "user", "content": "Two plus two?"}
FOUR, FIVE = ({"role": "assistant", "content": said} for said in ("Four.", "Five."))
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = "\n\nHuman: Two plus two?\n\nAssistant: "


@dataclass(frozen=True, slots=True)
class Form:
    """A form by an example of it, and what that is read as: who says what, in order. Of a
    comparison the last two are the better and the worse answer; `left_out` is the reason."""

    name: str
    row: Any
    reads: tuple[str, ...] = ("user: Two plus two?", "assistant: Four.")
    kind: str = "conversation"
    left_out: str = ""

    @property
    def becomes(self) -> str:
        """What a person is told of it."""
        if self.left_out:
            return f"left out: {self.left_out}"
        return f"{self.kind}: {', '.join(one.partition(':')[0] for one in self.reads)}"


PAIR = ("user: Two plus two?", "better: Four.", "worse: Five.")
BRIEF = ("system: Be brief.", *PAIR)
LONGER = ("user: One plus one?", "assistant: Two.", "user: Two plus two?", "assistant: Four.")

FORMS = (
    Form("messages", {"messages": [ASKED, FOUR]}),
    Form("messages, an answer that is read and not trained",
         {"messages": [ASKED, {**FIVE, "weight": 0}, ASKED, FOUR]},
         ("user: Two plus two?", "not trained: Five.", "user: Two plus two?", "assistant: Four.")),
    Form("messages in parts",
         {"messages": [{"role": "user", "content": [{"type": "text", "text": "Two plus two?"}]},
                       FOUR]}),
    Form("ShareGPT",
         {"conversations": [{"from": "human", "value": "Two plus two?"},
                            {"from": "gpt", "value": "Four."}]}),
    Form("ShareGPT's dialects",
         {"conversations": [{"from": "User", "value": "Two plus two?"},
                            {"from": "chatgpt", "value": "Four."}]}),
    Form("a list of messages (nanochat)", [ASKED, FOUR]),
    Form("prompt and completion", {"prompt": "Two plus two?", "completion": "Four."}),
    Form("the same as messages", {"prompt": [ASKED], "completion": [FOUR]}),
    Form("Alpaca", {"instruction": "Add.", "input": "2 + 2", "output": "4"},
         ("user: Add.\n\n2 + 2", "assistant: 4")),
    Form("Alpaca with a history",
         {"history": [["One plus one?", "Two."]], "instruction": "Two plus two?", "input": "",
          "output": "Four."}, LONGER),
    Form("Dolly", {"instruction": "Add.", "context": "2 + 2", "response": "4"},
         ("user: Add.\n\n2 + 2", "assistant: 4")),
    Form("question and answer, with a system text",
         {"system": "Be brief.", "question": "Two plus two?", "answer": "Four."},
         ("system: Be brief.", "user: Two plus two?", "assistant: Four.")),
    Form("columns that are null are not there",
         {"messages": None, "prompt": "Two plus two?", "completion": "Four.", "chosen": None}),
    Form("a talk in a text (HH-RLHF)",
         {"prompt": "\n\nHuman: One plus one?\n\nAssistant: Two.\n\nHuman: Two plus two?"
          "\n\nAssistant:", "completion": " Four."}, LONGER),
    Form("rated good", {"prompt": "Two plus two?", "completion": "Four.", "label": 1.0}),
    Form("rated bad", {"prompt": "Two plus two?", "completion": "Five.", "label": "false"},
         ("user: Two plus two?", "assistant: Five."), "rejected"),
    Form("a pair", {"prompt": "Two plus two?", "chosen": "Four.", "rejected": "Five."}, PAIR,
         "comparison"),
    Form("a pair under other names of its question",
         {"system": "Be brief.", "question": "Two plus two?", "chosen": "Four.",
          "rejected": "Five."}, BRIEF, "comparison"),
    Form("a pair of whole talks", {"chosen": [ASKED, FOUR], "rejected": [ASKED, FIVE]}, PAIR,
         "comparison"),
    Form("a pair of talks of several turns",
         {"prompt": "Two plus two?",
          "chosen": [{"role": "user", "content": "One plus one?"},
                     {"role": "assistant", "content": "Two."}, ASKED, FOUR],
          "rejected": [{"role": "user", "content": "One plus one?"},
                       {"role": "assistant", "content": "Two."}, ASKED, FIVE]},
         (*LONGER[:3], "better: Four.", "worse: Five."), "comparison"),
    Form("a system turn within the answers",
         {"prompt": "Two plus two?", "chosen": [SYSTEM, ASKED, FOUR],
          "rejected": [SYSTEM, ASKED, FIVE]}, BRIEF, "comparison"),
    Form("a pair of texts (HH-RLHF)", {"chosen": f"{TALK}Four.", "rejected": f"{TALK}Five."}, PAIR,
         "comparison"),
    Form("a task", {"prompt": "Write add(a, b).", "tests": "assert add(2, 2) == 4"},
         ("user: Write add(a, b).",), "task"),
    Form("a question alone, which PPO and GRPO ask", {"prompt": "Two plus two?"},
         ("user: Two plus two?",), "task"),
    Form("the same as messages, or in ShareGPT", {"messages": [ASKED]}, ("user: Two plus two?",),
         "task"),
    Form("calls of tools",
         {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"name": "add"}]},
                       {"role": "tool", "content": "4"}, FOUR]}, left_out="calls tools"),
    Form("pictures and sound",
         {"messages": [{"role": "user", "content": [{"type": "image"}]}, FOUR]},
         left_out="has pictures or sound"),
)  # fmt: skip
