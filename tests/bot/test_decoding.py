"""Text files in whatever encoding they were saved: read, and it is said what was guessed."""

from __future__ import annotations

import random

import pytest

from guildgpt.bot.text.files import read_attachment
from guildgpt.text.encodings import decoded

from .house import House

SENTENCES = {
    ("cp1252", "Windows-1252 (Western European)"): [
        "Die Straße ist für Fußgänger gesperrt, größere Umwege sind möglich.",
        "El niño comió piñas en el jardín; ¿cuánto costó la mañana?",
        "“Smart quotes” – and a dash — cost 5 € each…",
        "Le café est fermé à cause de la grève générale.",
        "Smörgåsbord på Åland är bäst i år.",
        "Où sont les crevettes ? Déjà là-bas, à côté de l’été.",
        "Ça va très bien, merci à toi.",
        "Noël à la forêt",
        "Amanhã à noite há reunião.",
        "È così perché è più bello.",
        "Mañana será otro día, señor.",
        "naïve café résumé",
        "50 € für 2 × 3 m² – «Sonderpreis»",
    ],
    ("gbk", "GBK"): [
        "今天天气很好，我们去公园散步吧。",
        "姓名,年龄\n张三,25\n李四,30",
        "错误：无法打开文件",
        "# 配置文件\nname = 测试\nport = 8080",
        "你好，世界！",
        "测试",
    ],
    ("cp932", "Shift-JIS"): [
        "今日は天気がいいので、公園へ散歩に行きましょう。",
        "名前,年齢\n田中,25\n鈴木,30",
        "ファイルが見つかりません",
        "ありがとうございます",
        "# 設定ファイル\nname = テスト\nport = 8080",
        "東京都千代田区",
    ],
    ("utf-16-le", "UTF-16"): [
        "Saved as “Unicode”.",
        "今天天气很好。",
        "Привет!",
        "오늘은 날씨가 좋다.",
        "ok",
    ],
    ("utf-16-be", "UTF-16"): ["name,price\ncafé,3.50", "吾輩は猫である。名前はまだ無い。"],
    ("cp1251", "Windows-1251 (Cyrillic)"): [
        "Привет, как дела? Всё хорошо.",
        "имя;возраст\nИван;25",
        "Наш Python-скрипт v2 читает config.json и пишет в stdout.",
    ],
    ("cp949", "EUC-KR"): ["오늘은 날씨가 좋으니 공원에 산책하러 갑시다.", "감사합니다"],
    ("big5", "Big5"): ["今天天氣很好，我們去公園散步吧。", "錯誤：無法開啟檔案"],
    ("euc_jp", "EUC-JP"): ["今日は天気がいいので、公園へ散歩に行きましょう。"],
    ("cp1250", "Windows-1250 (Central European)"): [
        "Zażółć gęślą jaźń, proszę bardzo.",
        "Příliš žluťoučký kůň",
        "město",
    ],
    ("cp1254", "Windows-1254 (Turkish)"): ["Bugün hava çok güzel, değil mi?"],
    ("cp1253", "Windows-1253 (Greek)"): ["Καλημέρα, τι κάνεις σήμερα; Πάμε στο πάρκο."],
    ("cp874", "Windows-874 (Thai)"): ["วันนี้อากาศดี ไปเดินเล่นที่สวนสาธารณะกันเถอะ"],
}


@pytest.mark.parametrize(
    ("encoding", "called", "text"),
    [(*names, text) for names, texts in SENTENCES.items() for text in texts],
)
def test_the_encoding_is_guessed(encoding: str, called: str, text: str) -> None:
    found = decoded(text.encode(encoding))
    assert found is not None
    assert (found.text, found.guess) == (text, called)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_the_file_says_itself_is_no_guess(encoding: str) -> None:
    found = decoded("Grüße aus 東京".encode(encoding))
    assert found is not None
    assert (found.text, found.guess) == ("Grüße aus 東京", "")


def test_a_cut_in_the_middle_of_a_character() -> None:
    for text, encoding in [("今天天气很好。" * 20, "gbk"), ("Привет " * 20, "utf-16-le")]:
        found = decoded(text.encode(encoding)[:101], cut=True)
        assert found is not None
        assert text.startswith(found.text)
        assert len(found.text) >= 49


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"GIF89a", b"ID3\x03", b""]
)
def test_binary_files_are_no_text(head: bytes) -> None:
    noise = random.Random(7)
    for _ in range(50):
        assert decoded(head + noise.randbytes(400)) is None


def test_the_guess_is_said() -> None:
    found = read_attachment("notes.txt", None, "こんにちは、世界！".encode("cp932"), 1000)
    assert found == "notes.txt (read as Shift-JIS):\n```\nこんにちは、世界！\n```"


async def test_a_file_from_an_old_editor_is_read(bot: House) -> None:
    """The model is told how, and so is who asked: a wrong guess explains a strange answer."""
    bot.model.answer = lambda prompt: "A text about a boy."
    content = "El niño comió piñas en el jardín."
    files = [("notes.txt", content.encode("cp1252"), "text/plain")]
    answer = await bot.ask("What is this?", attachments=files)
    assert content in bot.model.prompts[-1]
    assert "notes.txt (read as Windows-1252 (Western European)):" in bot.model.prompts[-1]
    note = "\n-# I read notes.txt as Windows-1252 (Western European)."
    assert answer.content == f"A text about a boy.{note}"
    again = await bot.command("retry")
    assert again.responses[0].content.endswith(note)
    # It is no part of the answer: nothing of it is kept, or told to the model.
    assert bot.rows("SELECT DISTINCT text FROM messages WHERE role = 'assistant'") == [
        ("A text about a boy.",)
    ]


async def test_of_a_file_that_says_what_it_is_nothing_is_said(bot: House) -> None:
    files = [("notes.txt", "El niño".encode(), "text/plain")]
    bot.model.answer = lambda prompt: "A text."
    assert (await bot.ask("What is this?", attachments=files)).content == "A text."
