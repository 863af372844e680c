"""Which engine a configuration means, and what takes the place of one that is not here."""

from pathlib import Path

import pytest

from shared.config.engine_choice import ConfigWarning, is_local_url, is_placeholder
from shared.config.load import load_with_warnings
from shared.listening import VadProfile
from shared.settings import Settings

pytestmark = pytest.mark.unit


def loaded(tmp_path: Path, text: str) -> tuple[Settings, list[ConfigWarning]]:
    (tmp_path / ".config.yaml").write_text(text, "utf-8")
    return load_with_warnings({"XZ_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("selected_module: {ASR: FunASR}\nASR: {FunASR: {type: fun_local}}", "selected_module.ASR", "pocketsphinx"),
        ("selected_module: {ASR: FunASR}", "selected_module.ASR", "pocketsphinx"),
        ("selected_module: {TTS: EdgeTTS}\nTTS: {EdgeTTS: {type: edge}}", "selected_module.TTS", "embedded"),
        ("selected_module: {LLM: DifyLLM}\nLLM: {DifyLLM: {type: dify}}", "selected_module.LLM", "openai"),
        ("selected_module: {VAD: Other}\nVAD: {Other: {type: webrtc}}", "selected_module.VAD", "silero"),
        ("selected_module: {Memory: mem_local_short}", "selected_module.Memory", "nomem"),
        ("selected_module: {Intent: intent_llm}", "selected_module.Intent", "function_call"),
        ("selected_module: {VLLM: ChatGLMVLLM}", "selected_module.VLLM", "not supported yet"),
    ],
)
def test_an_engine_that_is_not_here_is_replaced_and_named(tmp_path: Path, text: str, key: str, words: str) -> None:
    """The server starts with the embedded default and says which engine is nearest."""
    settings, warnings = loaded(tmp_path, text)
    assert [warning.key for warning in warnings] == [key]
    assert words in warnings[0].message
    assert (settings.asr.engine.type, settings.tts.engine.type) == ("pocketsphinx", "embedded")
    assert settings.session.llm is None


def test_a_type_alone_selects_an_engine(tmp_path: Path) -> None:
    """An engine without options needs no section."""
    settings, warnings = loaded(tmp_path, "selected_module: {ASR: scripted, TTS: sine, LLM: scripted}")
    assert (settings.asr.engine.type, settings.tts.engine.type) == ("scripted", "sine")
    assert settings.session.llm is not None
    assert settings.session.llm.type == "scripted"
    assert warnings == []


def test_a_section_keeps_its_other_keys(tmp_path: Path) -> None:
    """Engines read their own options."""
    text = "selected_module: {TTS: Mine}\nTTS: {Mine: {type: hibari, voice: heart, speed: 1.2}}"
    engine = loaded(tmp_path, text)[0].tts.engine
    assert (engine.name, engine.type, engine.options) == ("Mine", "hibari", {"voice": "heart", "speed": 1.2})


def test_a_key_alone_makes_todays_default_llm_work(tmp_path: Path) -> None:
    """A file that only fills in the key relies on the package's URL and model."""
    settings, warnings = loaded(tmp_path, "LLM: {ChatGLMLLM: {api_key: abc}}")
    assert settings.session.llm is not None
    assert settings.session.llm.options["base_url"] == "https://open.bigmodel.cn/api/paas/v4/"
    assert settings.session.llm.options["model_name"] == "glm-4-flash"
    assert warnings == []


@pytest.mark.parametrize("key", ["", "你的chat-glm web key", "your-api-key"])
def test_a_remote_llm_without_a_key_means_the_offline_brain(tmp_path: Path, key: str) -> None:
    """Every turn would fail; the offline brain answers at once, and a warning says why."""
    settings, warnings = loaded(
        tmp_path, f"selected_module: {{LLM: ChatGLMLLM}}\nLLM: {{ChatGLMLLM: {{api_key: '{key}'}}}}"
    )
    assert settings.session.llm is None
    assert [warning.key for warning in warnings] == ["selected_module.LLM"]
    assert "offline brain" in warnings[0].message


def test_a_local_llm_needs_no_key(tmp_path: Path) -> None:
    """Model servers at home seldom ask for one."""
    text = (
        "selected_module: {LLM: Home}\n"
        "LLM: {Home: {type: openai, url: 'http://192.168.1.5:8080/v1', model_name: m, max_tokens: '500'}}"
    )
    settings, warnings = loaded(tmp_path, text)
    assert settings.session.llm is not None
    assert settings.session.llm.options["base_url"] == "http://192.168.1.5:8080/v1"
    assert settings.session.llm.options["max_tokens"] == 500
    assert warnings == []


@pytest.mark.parametrize("name", ["OllamaLLM", "XinferenceLLM", "LMStudioLLM"])
def test_todays_local_sections_work_by_name(tmp_path: Path, name: str) -> None:
    """Selecting one is enough."""
    settings, warnings = loaded(tmp_path, f"selected_module: {{LLM: {name}}}")
    assert settings.session.llm is not None
    assert warnings == []


def test_engines_lists_what_a_device_may_choose(tmp_path: Path) -> None:
    """Sections of types that are not here, or without a key, are not offered."""
    text = "ASR: {FunASR: {type: fun_local}, Other: {type: scripted}}\nLLM: {DeepSeekLLM: {api_key: abc}}"
    settings, _ = loaded(tmp_path, text)
    assert set(settings.asr.engines) == {"PocketSphinxASR", "Other"}
    assert "DeepSeekLLM" in settings.session.engines
    assert "GeminiLLM" not in settings.session.engines


def test_an_intent_without_tools(tmp_path: Path) -> None:
    """nointent is passed on to the session workers."""
    settings, warnings = loaded(tmp_path, "selected_module: {Intent: nointent}")
    assert settings.session.intent == "nointent" and not warnings


def test_the_vad_section_of_the_file_wins(tmp_path: Path) -> None:
    """Today's file says 200 ms; who wrote that gets it, who wrote nothing gets 500."""
    text = "VAD: {SileroVAD: {type: silero, threshold: 0.6, threshold_low: 0.2, min_silence_duration_ms: 200}}"
    assert loaded(tmp_path, "")[0].router.vad == VadProfile(0.5, 0.3, 500)
    assert loaded(tmp_path, text)[0].router.vad == VadProfile(0.6, 0.2, 200)


def test_a_low_threshold_never_lies_above_the_high_one(tmp_path: Path) -> None:
    """Otherwise nothing between the two would be decided; the lower value is used and named."""
    settings, warnings = loaded(tmp_path, "VAD: {SileroVAD: {threshold: 0.2}}")
    assert settings.router.vad.threshold_low == 0.2
    assert [warning.key for warning in warnings] == ["VAD.SileroVAD.threshold_low"]


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:1234/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://10.0.0.5/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://nas.local/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("http://[broken", False),
        (None, False),
        ("", False),
    ],
)
def test_local_urls(url: str | None, is_local: bool) -> None:
    """This machine, private addresses, names of a home network."""
    assert is_local_url(url) is is_local


def test_placeholders() -> None:
    """An example is a text with 你 in it, or one that begins with "your"."""
    assert is_placeholder("你的api_key")
    assert is_placeholder("your_token")
    assert not is_placeholder("sk-yours")
    assert not is_placeholder(5)
