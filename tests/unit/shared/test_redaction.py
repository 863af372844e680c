"""What may be shown of a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.log.redaction import MASK, is_secret_field, is_secret_setting, mask_field, mask_text, mask_value

pytestmark = pytest.mark.unit

SECRET = "Zq7wPx9LmN3"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization=bearer {SECRET}",
        f"GET /x?token={SECRET}&a=1",
        f"https://user:{SECRET}@host/x",
        f"{{'api_key': '{SECRET}', 'n': 1}}",
        f'{{"access_token":"{SECRET} and more"}}',
        f"password: {SECRET}",
        f"mqtt_signature_key={SECRET}",
        f"key sk-{SECRET}{SECRET} was refused",
        f"[type=int_parsing, input_value='{SECRET}', input_type=str]",
    ],
)
def test_a_credential_inside_a_text_is_masked(text: str) -> None:
    """What looks like a credential does not survive, whatever stands around it."""
    assert SECRET not in mask_text(text)
    assert MASK in mask_text(text)


@pytest.mark.parametrize(
    "text", ["first_token_ms=30", "max_tokens: 500", "tokens=12", "the key of C", "ws://host:8000/x"]
)
def test_plain_text_is_left_alone(text: str) -> None:
    """Counts of tokens and ordinary words are no credentials."""
    assert mask_text(text) == text


@pytest.mark.parametrize(
    "name",
    ["token", "Authorization", "api_key", "api-key", "mqtt_signature_key", "password", "device_token", "admin_token"],
)
def test_secret_fields_are_known_by_name(name: str) -> None:
    """A field named like a credential shows nothing of its value."""
    assert is_secret_field(name)
    assert mask_field(name, SECRET) == MASK


@pytest.mark.parametrize("name", ["first_token_ms", "max_tokens", "key", "keys", "tokens", "prompt_tokens", "session"])
def test_ordinary_fields_are_shown(name: str) -> None:
    """Numbers of tokens, a configuration key's name and the like stay readable."""
    assert mask_field(name, 7) == 7


@pytest.mark.parametrize("name", ["text", "transcript", "display", "reply", "prompt", "content"])
def test_speech_shows_only_its_length(name: str) -> None:
    """What people say or hear is never logged."""
    assert mask_field(name, "hello world") == "<11 chars>"
    assert mask_value({name: "hello world"}) == {name: "<11 chars>"}


def test_settings_hide_values_of_secret_keys() -> None:
    """Any part of a key's path may make it secret; a number of tokens does not."""
    assert is_secret_setting("server.auth.tokens")
    assert is_secret_setting("LLM.X.api_key")
    assert not is_secret_setting("LLM.X.max_tokens")
    assert not is_secret_setting("server.port")


def test_an_object_that_cannot_be_shown_is_named() -> None:
    """Masking never raises, even if a repr does."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert mask_value(Broken()) == "<Broken without repr: RuntimeError>"


def test_a_structure_that_contains_itself_ends() -> None:
    """Depth is bounded."""
    loop: list[object] = []
    loop.append(loop)
    assert mask_value(loop)


def test_a_very_long_text_keeps_its_ends() -> None:
    """A traceback's last lines say what happened; a secret across the cut is not left in halves."""
    text = "first\n" + f"token={SECRET}\n" * 5000 + "last"
    shown = mask_text(text)
    assert shown.startswith("first\n")
    assert shown.endswith("last")
    assert len(shown) < 20_000
    assert SECRET[:4] not in shown
    assert SECRET[-4:] not in shown


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(inner=nested, name=st.sampled_from(["token", "api_key", "secret", "text", "reply"]), depth=st.integers(0, 8))
def test_nothing_below_a_secret_name_survives(inner: object, name: str, depth: int) -> None:
    """However deep a secret or a sentence lies, its value is not in what is shown."""
    value: object = {name: SECRET, "other": inner}
    for _ in range(depth):
        value = {"level": [value]}
    assert SECRET not in repr(mask_value(value))
