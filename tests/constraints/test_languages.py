"""Five languages told apart, and nothing said where little can be told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.constraints.languages import LITTLE, language_of


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The bridge was built in the year of the flood, and it is still in use."),
        ("de", "Die Brücke wurde im Jahr der Flut gebaut und ist noch immer nicht alt."),
        ("fr", "Le pont est dans la ville depuis longtemps et les gens le trouvent beau."),
        ("es", "El puente está en la ciudad desde hace mucho y a la gente le gusta."),
        ("it", "Il ponte è nella città da molto tempo e alla gente piace ancora."),
        (None, "Bonjour!"),
        (None, "Lisboa Porto Braga Coimbra Faro Setúbal"),
        (None, "橋は町の中にあります。"),
        (None, ""),
    ],
)
def test_by_hand(code: str | None, text: str) -> None:
    assert language_of(text) == code


@given(st.text())
def test_any_text_can_be_asked(text: str) -> None:
    assert language_of(text) in {None, *LITTLE}
