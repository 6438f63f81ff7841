"""Checks of what the bot sends: messages, components, embeds and modals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from simguild.fake import limits
from simguild.fake.errors import ApiError, Fault, invalid_form
from simguild.fake.limits import utf16_length

Json = dict[str, Any]

_SHARED = {"content", "tts", "embeds", "allowed_mentions", "components", "attachments", "flags"}
CREATE_KEYS = _SHARED | {
    "nonce",
    "enforce_nonce",
    "message_reference",
    "sticker_ids",
    "poll",
}
EDIT_KEYS = _SHARED
WEBHOOK_KEYS = _SHARED | {"username", "avatar_url", "thread_name", "applied_tags", "poll"}
CALLBACK_KEYS = _SHARED | {"poll"}
MODAL_KEYS = {"custom_id", "title", "components"}
V2 = 1 << 15  # the flag of a message made of layout components
ACTION_ROW, BUTTON, TEXT_INPUT, SELECTS, LABEL = 1, 2, 4, {3, 5, 6, 7, 8}, 18
TEXT_DISPLAY, TICKS = 10, 22  # of a modal: text to read, and boxes to tick


class Form:
    """Collects what is wrong with a body, so that the answer can name all of it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: str, code: str, message: str) -> None:
        """Note one thing that is wrong."""
        self.faults.append(Fault(path, code, message))

    def length(self, path: str, value: object, most: int, least: int = 0) -> bool:
        """Whether `value` is a text of `least` to `most` UTF-16 units; notes it if not."""
        if not isinstance(value, str):
            self.fault(path, "BASE_TYPE_REQUIRED", f"Must be a string of {least} to {most}.")
            return False
        length = utf16_length(value)
        if length > most:
            words = f"Must be {most} or fewer in length (it is {length})."
            self.fault(path, "BASE_TYPE_MAX_LENGTH", words)
        elif length < least:
            self.fault(path, "BASE_TYPE_MIN_LENGTH", f"Must be {least} or more in length.")
        else:
            return True
        return False

    def items(self, path: str, value: object, most: int, least: int = 0) -> list[Any]:
        """`value` if it is a list of `least` to `most` items, else [] and a fault."""
        if isinstance(value, list) and least <= len(value) <= most:
            return value
        given = f"{len(value)} items" if isinstance(value, list) else "no list"
        words = f"Must be between {least} and {most} in length ({given})."
        self.fault(path, "BASE_TYPE_BAD_LENGTH", words)
        return []

    def check(self) -> None:
        """Raise error 50035 if anything is wrong."""
        if self.faults:
            raise invalid_form(self.faults)


def check_message(body: Json) -> None:
    """Raise error 50035 where a message breaks a limit."""
    form = Form()
    if body.get("content") is not None:
        form.length("content", body["content"], limits.CONTENT)
    if body.get("nonce") is not None:
        form.length("nonce", str(body["nonce"]), limits.NONCE)
    if body.get("flags", 0) & V2:
        form.fault("flags", "UNSUPPORTED", "This fake knows no layout components.")
    if body.get("allowed_mentions") is not None:
        _check_allowed_mentions(form, body["allowed_mentions"])
    if body.get("embeds") is not None:
        _check_embeds(form, body["embeds"])
    if body.get("components") is not None:
        _check_components(form, body["components"])
    form.check()


def unknown_keys(body: Json, known: Iterable[str]) -> list[str]:
    """The keys that Discord would ignore in silence."""
    return sorted(set(body) - set(known))


def _check_allowed_mentions(form: Form, allowed: Json) -> None:
    parse = allowed.get("parse") or []
    for kind in ("users", "roles"):
        ids = form.items(f"allowed_mentions.{kind}", allowed.get(kind) or [], 100)
        if ids and kind in parse:
            words = f'parse:["{kind}"] and {kind}: [ids...] are mutually exclusive.'
            form.fault("allowed_mentions", "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", words)
    for index, kind in enumerate(parse):
        if kind not in ("everyone", "users", "roles"):
            form.fault(f"allowed_mentions.parse.{index}", "BASE_TYPE_CHOICES", f"Not {kind!r}.")


def _check_embeds(form: Form, embeds: object) -> None:
    total = 0
    for index, embed in enumerate(form.items("embeds", embeds, limits.EMBEDS)):
        path = f"embeds.{index}"
        texts = [(part, embed.get(part), most) for part, most in limits.EMBED_PARTS.items()]
        texts.append(("footer.text", (embed.get("footer") or {}).get("text"), 2048))
        texts.append(("author.name", (embed.get("author") or {}).get("name"), 256))
        fields = form.items(f"{path}.fields", embed.get("fields") or [], limits.EMBED_FIELDS)
        for place, entry in enumerate(fields):
            texts.append((f"fields.{place}.name", entry.get("name", ""), 256))
            texts.append((f"fields.{place}.value", entry.get("value", ""), 1024))
        for part, text, most in texts:
            if text is not None and form.length(f"{path}.{part}", text, most):
                total += utf16_length(text)
    if total > limits.EMBED_TOTAL:
        words = f"Embeds hold more than {limits.EMBED_TOTAL} characters together."
        form.fault("embeds", "MAX_EMBED_SIZE_EXCEEDED", words)


def _check_components(form: Form, rows: object) -> None:
    seen: set[str] = set()
    for index, row in enumerate(form.items("components", rows, limits.ROWS)):
        path = f"components.{index}"
        if row.get("type") != ACTION_ROW:
            form.fault(f"{path}.type", "UNION_TYPE_CHOICES", "Must be an action row.")
            continue
        parts = form.items(f"{path}.components", row.get("components"), limits.BUTTONS, 1)
        for place, part in enumerate(parts):
            where = f"{path}.components.{place}"
            if part.get("type") == BUTTON:
                _check_button(form, where, part)
            elif part.get("type") not in SELECTS or len(parts) > 1:
                form.fault(f"{where}.type", "UNION_TYPE_CHOICES", "Buttons, or one select.")
            _check_custom_id(form, where, part, seen)


def _check_button(form: Form, path: str, button: Json) -> None:
    link = button.get("style") == 5
    if button.get("style") not in (1, 2, 3, 4, 5):
        form.fault(f"{path}.style", "BASE_TYPE_CHOICES", "Must be a style from 1 to 5.")
    if button.get("label") is not None:
        form.length(f"{path}.label", button["label"], limits.LABEL)
    elif not button.get("emoji"):
        words = "A button must have a label or an emoji."
        form.fault(path, "BUTTON_COMPONENT_LABEL_REQUIRED", words)
    if link != ("url" in button) or link == ("custom_id" in button):
        words = "A custom id or url is required, and never both."
        form.fault(path, "BUTTON_COMPONENT_CUSTOM_ID_REQUIRED", words)


def _check_custom_id(form: Form, path: str, part: Json, seen: set[str]) -> None:
    if "custom_id" not in part:
        return
    custom_id = part["custom_id"]
    form.length(f"{path}.custom_id", custom_id, limits.CUSTOM_ID, 1)
    if custom_id in seen:
        words = "Component custom id cannot be duplicated."
        form.fault(f"{path}.custom_id", "COMPONENT_CUSTOM_ID_DUPLICATED", words)
    seen.add(custom_id)


def check_modal(modal: Json) -> None:
    """Raise error 50035 where a modal breaks a limit."""
    form = Form()
    form.length("data.custom_id", modal.get("custom_id"), limits.CUSTOM_ID, 1)
    form.length("data.title", modal.get("title"), limits.MODAL_TITLE, 1)
    form.items("data.components", modal.get("components"), limits.ROWS, 1)
    seen: set[str] = set()
    for path, part, label in text_inputs(modal):
        _check_custom_id(form, path, part, seen)
        form.length(f"{path}.label", label, limits.MODAL_LABEL, 1)
        form.length(f"{path}.placeholder", part.get("placeholder") or "", 100)
        form.length(f"{path}.value", part.get("value") or "", limits.MODAL_INPUT)
        if not 1 <= (part.get("max_length") or 1) <= limits.MODAL_INPUT:
            words = f"Must be 1 to {limits.MODAL_INPUT}."
            form.fault(f"{path}.max_length", "NUMBER_TYPE_MAX", words)
    for index, row in enumerate(modal.get("components") or []):
        _check_row(form, f"data.components.{index}", row)
    for path, part, label in ticks(modal):
        _check_custom_id(form, path, part, seen)
        form.length(f"{path}.label", label, limits.MODAL_LABEL, 1)
        options = form.items(f"{path}.options", part.get("options"), limits.TICKS, 1)
        for place, option in enumerate(options):
            for key in ("label", "value"):
                most = limits.TICK
                form.length(f"{path}.options.{place}.{key}", option.get(key), most, 1)
        if not 0 <= (part.get("min_values") or 0) <= (part.get("max_values") or 1) <= len(options):
            words = "Must be from 0 to max_values, and these as many as options at most."
            form.fault(f"{path}.min_values", "NUMBER_TYPE_MAX", words)
    form.check()


def _check_row(form: Form, path: str, row: Json) -> None:
    kind, part = row.get("type"), row.get("component", {})
    if kind == TEXT_DISPLAY:
        form.length(f"{path}.content", row.get("content"), limits.MODAL_TEXT, 1)
    elif kind == LABEL and part.get("type") in (TEXT_INPUT, TICKS):
        if row.get("description") is not None:
            form.length(f"{path}.description", row["description"], limits.TICK)
    elif kind != ACTION_ROW:
        words = "This fake knows text, text inputs and boxes to tick."
        form.fault(path, "UNSUPPORTED", words)


def text_inputs(modal: Json) -> Iterator[tuple[str, Json, str]]:
    """Path, input and label of every text input, in rows (the old form) or labels (the new)."""
    for index, row in enumerate(modal.get("components") or []):
        path = f"data.components.{index}"
        if row.get("type") == ACTION_ROW:
            for part in row.get("components") or []:
                if part.get("type") == TEXT_INPUT:
                    yield f"{path}.components.0", part, part.get("label") or ""
        elif row.get("type") == LABEL and row.get("component", {}).get("type") == TEXT_INPUT:
            yield f"{path}.component", row["component"], row.get("label") or ""


def ticks(modal: Json) -> Iterator[tuple[str, Json, str]]:
    """Path, group and label of every group of boxes to tick."""
    for index, row in enumerate(modal.get("components") or []):
        if row.get("type") == LABEL and row.get("component", {}).get("type") == TICKS:
            yield f"data.components.{index}.component", row["component"], row.get("label") or ""


def empty_message() -> ApiError:
    """Error 50006: neither text nor anything else to show."""
    words = "an empty message"
    return ApiError(400, 50006, "Cannot send an empty message", violation=words)
