"""What a conversation is, and how it becomes token ids with a loss mask."""

from guildgpt.chat.conversation import (
    Comparison,
    Conversation,
    Message,
    Rejected,
    Role,
    Source,
    Task,
)
from guildgpt.chat.template import CHATML, ChatTemplate, Rendered
from guildgpt.chat.tokenizer import FileTokenizer, Tokenizer

__all__ = [
    "CHATML",
    "ChatTemplate",
    "Comparison",
    "Conversation",
    "FileTokenizer",
    "Message",
    "Rejected",
    "Rendered",
    "Role",
    "Source",
    "Task",
    "Tokenizer",
]
