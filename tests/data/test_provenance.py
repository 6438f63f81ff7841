from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data.provenance import (
    PERMISSIVE,
    PUBLIC_DOMAIN,
    SHARE_ALIKE,
    Provenance,
    attributions,
    check,
    refusal,
    spdx,
)
from guildgpt.errors import DataError, PolicyError

DOLLY = Provenance("dolly", licence="CC-BY-SA-3.0", written_by="people", attribution="Databricks")
GOOD = sorted(PERMISSIVE | SHARE_ALIKE | PUBLIC_DOMAIN | {"own"})


@given(
    st.builds(
        Provenance,
        name=st.text(),
        kind=st.sampled_from(["data", "base"]),
        licence=st.text(),
        rows=st.integers(0),
        written_by=st.sampled_from(["people", "model", "mixed", "unknown"]),
        note=st.text(),
        held_out=st.none() | st.floats(0, 1),
    )
)
def test_a_record_survives_json(item: Provenance) -> None:
    assert Provenance.from_dict(json.loads(json.dumps(asdict(item)))) == item


def test_a_record_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(DataError, match="colour"):
        Provenance.from_dict({"name": "x", "colour": "red"})


@given(st.sampled_from(GOOD), st.sampled_from([str.lower, str.upper, str.title]))
def test_strict_takes_known_licences_in_any_case(licence: str, change) -> None:
    item = Provenance("x", licence=change(licence), written_by="people")
    assert refusal(item) is None
    assert spdx(change(licence)) == licence


@pytest.mark.parametrize(
    ("licence", "written_by", "why"),
    [
        ("unknown", "people", "licence is unknown"),
        ("", "people", "licence is unknown"),
        ("unknown", "unknown", "and so is who wrote"),
        ("CC-BY-NC-4.0", "people", "commercial"),
        ("cc-by-nc-sa-4.0", "people", "commercial"),
        ("CC-BY-ND-4.0", "people", "adaptations"),
        ("LicenseRef-Secret", "people", "not among"),
        ("MIT", "model", "written by a model"),
        ("MIT", "mixed", "partly written by a model"),
        ("MIT", "unknown", "Nobody says"),
    ],
)
def test_strict_refuses(licence: str, written_by, why: str) -> None:
    verdict = refusal(Provenance("x", licence=licence, written_by=written_by))
    assert verdict is not None
    assert why in verdict


def test_a_base_answers_for_its_tuning_but_not_for_its_pretraining_text() -> None:
    assert refusal(Provenance("b", "base", licence="apache-2.0")) is None
    assert refusal(Provenance("b", "base", licence="apache-2.0", written_by="mixed")) is not None
    assert refusal(Provenance("b", "base")) is not None


def test_strict_names_every_refused_source_at_once() -> None:
    items = [
        DOLLY,
        Provenance("alpaca", licence="CC-BY-NC-4.0"),
        Provenance("chat", origin="c.jsonl"),
    ]
    with pytest.raises(PolicyError) as caught:
        check("strict", items)
    text = str(caught.value)
    assert "2 of 3" in text
    assert "alpaca" in text
    assert "chat (c.jsonl)" in text
    assert "dolly" not in text
    assert 'policy = "open"' in text
    assert 'written_by = "people"' in text


def test_the_remedy_for_a_base_without_a_licence_is_one_for_a_base() -> None:
    base = Provenance("mine", "base", origin="mine")
    with pytest.raises(PolicyError, match=r"the only source.*\n.*\n.*`model\.licence`"):
        check("strict", [base])
    assert check("strict", [replace(base, licence="MIT")]) == []
    with pytest.raises(PolicyError) as caught:
        check("strict", [DOLLY, Provenance("chat")])
    assert "model.licence" not in str(caught.value)


def test_a_source_that_the_base_has_learned_from_before_is_told_once() -> None:
    chat = Provenance("chat", origin="c.jsonl")
    assert len(check("open", [chat, DOLLY, replace(chat, rows=3)])) == 1
    with pytest.raises(PolicyError, match="1 of 2"):
        check("strict", [chat, DOLLY, replace(chat, rows=3)])


def test_open_warns_of_the_same_and_strict_is_silent_when_all_is_well() -> None:
    warnings = check("open", [DOLLY, Provenance("chat")])
    assert len(warnings) == 1
    assert warnings[0].startswith("chat: ")
    assert check("strict", [DOLLY]) == []


def test_the_model_card_credits_whom_the_licences_name() -> None:
    card = attributions(
        [
            DOLLY,
            Provenance("starter", licence="CC0-1.0"),
            Provenance("mine", licence="own"),
            Provenance("base", "base", licence="Apache-2.0", origin="org/base"),
        ]
    )
    dolly, base = card.splitlines()
    assert "Databricks" in dolly
    assert "[CC-BY-SA-3.0](https://spdx.org/licenses/CC-BY-SA-3.0.html)" in dolly
    assert "Share-alike" in dolly
    assert "org/base" in base
    assert "Share-alike" not in base
