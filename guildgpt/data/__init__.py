"""Data: sources, their readers, mixtures, splits and provenance."""

from guildgpt.data.dataset import Dataset, SourceReport, build
from guildgpt.data.documents import Document, read_documents
from guildgpt.data.pairs import preview_pairs
from guildgpt.data.preview import Statistics, check_trainable, preview
from guildgpt.data.provenance import Policy, Provenance, WrittenBy, attributions, check
from guildgpt.data.source import Loaded, load
from guildgpt.data.spec import SourceSpec
from guildgpt.data.split import Side, split_side
from guildgpt.data.starter import StarterPrompt, StarterTask, starter_prompts, starter_tasks

__all__ = [
    "Dataset",
    "Document",
    "Loaded",
    "Policy",
    "Provenance",
    "Side",
    "SourceReport",
    "SourceSpec",
    "StarterPrompt",
    "StarterTask",
    "Statistics",
    "WrittenBy",
    "attributions",
    "build",
    "check",
    "check_trainable",
    "load",
    "preview",
    "preview_pairs",
    "read_documents",
    "split_side",
    "starter_prompts",
    "starter_tasks",
]
