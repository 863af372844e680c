"""The language of canned prompts."""

from __future__ import annotations

import pytest

from router import wire
from router.talk.prompts import load_prompts
from router.talk.tongue import LANGUAGES, tongue_of, tongue_of_tag
from shared.ids import Role
from shared.link.messages import Profile
from tests.fakes.world import World

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "before", "tongue"),
    [
        ("hello", "zh", "en"),
        ("给我讲个故事", "en", "zh"),
        ("播放 Yesterday", "en", "zh"),
        ("12", "zh", "zh"),
        ("😀", "en", "en"),
        ("", "zh", "zh"),
    ],
)
def test_it_is_that_of_what_was_said(text: str, before: str, tongue: str) -> None:
    """What tells nothing changes nothing."""
    assert tongue_of(text, before) == tongue


@pytest.mark.parametrize(("tag", "tongue"), [("zh-CN", "zh"), ("EN", "en"), ("de", "en"), (None, "en"), ("", "en")])
def test_a_tag_counts_if_there_are_prompts_in_its_language(tag: str | None, tongue: str) -> None:
    """Others are spoken to as before."""
    assert tongue_of_tag(tag, "en") == tongue


def test_every_prompt_is_there_in_every_language() -> None:
    """Made by `python -m ops.make_prompts`."""
    prompts = load_prompts()
    names = {name for name, _ in prompts}
    assert names >= {"apology", "busy", "filler", "goodbye"}
    assert set(prompts) == {(name, language) for name in names for language in LANGUAGES}


def test_before_anything_was_said_the_profile_tells() -> None:
    """A Chinese device whose first utterance fails hears Chinese."""
    world = World().hello().event(Role.SESSION, Profile(language="zh-CN"))
    assert world.conversation.mouth.language == "zh"
    world.say(wire.Detect("good morning", None))
    world.event(Role.SESSION, Profile(language="zh-CN"))
    assert world.conversation.mouth.language == "en"
