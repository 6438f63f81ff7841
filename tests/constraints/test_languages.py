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
        ("en", "I think that I know what I like."),
        ("en", "I am sorry, I cannot answer in Italian."),
        ("en", "I don't think it's what you're after."),
        ("en", "It doesn't matter; we'll see what they've done."),
        ("fr", "L'eau d'Évian n'est qu'un exemple."),
        ("fr", "C’est l’ami d’une femme qu’il aime aujourd’hui."),
        ("it", "L'acqua dell'isola c'è anche d'estate; l'amico dell'uomo."),
        ("it", "Il ponte e\u0300 nella citta\u0300 da molto tempo."),
        ("en", f"The bridge is old and it is not wide. {'die ' * 20}"),
        (None, f"Rivers carry boats slowly past hills. {'die ' * 6}"),
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
