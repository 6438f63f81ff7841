"""The data sets known by name: where they lie, whose they are and under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guildgpt.data.provenance import OWN, UNKNOWN, WrittenBy

Reader = Literal["dolly", "oasst", "stackexchange", "rows", "starter"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source: its reader and, for a published set, the facts that go with its rows."""

    reader: Reader
    hub_id: str = ""  # the data set's id on the Hugging Face Hub
    hub_file: str = ""  # empty: it cannot be fetched by its bare name
    licence: str = UNKNOWN
    written_by: WrittenBy = "unknown"
    attribution: str = ""
    note: str = ""


_OASST = "OpenAssistant Conversations, by the contributors of Open-Assistant (LAION)"

KINDS: dict[str, Kind] = {
    "dolly": Kind(
        reader="dolly",
        hub_id="databricks/databricks-dolly-15k",
        hub_file="databricks-dolly-15k.jsonl",
        licence="CC-BY-SA-3.0",
        written_by="people",
        attribution=(
            "databricks-dolly-15k, copyright 2023 Databricks, Inc., with passages from Wikipedia, "
            "copyright Wikipedia editors and contributors "
            "(https://huggingface.co/datasets/databricks/databricks-dolly-15k)"
        ),
    ),
    "oasst1": Kind(
        reader="oasst",
        hub_id="OpenAssistant/oasst1",
        hub_file="2023-04-12_oasst_ready.trees.jsonl.gz",
        licence="Apache-2.0",
        written_by="people",
        attribution=f"{_OASST} (https://huggingface.co/datasets/OpenAssistant/oasst1)",
    ),
    "oasst2": Kind(
        reader="oasst",
        hub_id="OpenAssistant/oasst2",
        hub_file="2023-11-05_oasst2_ready.trees.jsonl.gz",
        licence="Apache-2.0",
        written_by="people",
        attribution=f"{_OASST} (https://huggingface.co/datasets/OpenAssistant/oasst2)",
    ),
    # A file in Open-Assistant's form, from either release.
    "oasst": Kind(
        reader="oasst",
        hub_id="OpenAssistant/oasst1 or oasst2",
        licence="Apache-2.0",
        written_by="people",
        attribution=f"{_OASST} (https://huggingface.co/OpenAssistant)",
    ),
    # Licence, credit and month are the file's own, see `stackexchange.Dump`.
    "stackexchange": Kind(reader="stackexchange", written_by="people"),
    "file": Kind(reader="rows"),
    "jsonl": Kind(reader="rows"),  # what `file` was called when it read nothing else
    "hub": Kind(reader="rows"),
    # The operator's own store; a run takes its rows out of it when it begins.
    "feedback": Kind(
        reader="rows",
        licence=OWN,
        written_by="own model",
        note="answers of this model's own versions, as people judged and corrected them",
    ),
    "starter": Kind(
        reader="starter",
        licence="CC0-1.0",
        note="the starter pack that comes with GuildGPT",
    ),
    "constrained": Kind(
        reader="starter",
        licence="CC0-1.0",
        note="prompts with constraints, of the starter pack that comes with GuildGPT",
    ),
}
