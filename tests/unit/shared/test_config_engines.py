"""Which engine a configuration means, and what takes the place of one that is not here."""

from pathlib import Path

import pytest

from shared.config.findings import ConfigWarning
from shared.config.llm_section import is_local_url
from shared.config.load import load_with_warnings
from shared.config.options.base import is_placeholder
from shared.errors import InvalidConfigError
from shared.listening import VadProfile
from shared.settings import Settings

pytestmark = pytest.mark.unit


def loaded(tmp_path: Path, text: str) -> tuple[Settings, list[ConfigWarning]]:
    (tmp_path / ".config.yaml").write_text(text, "utf-8")
    return load_with_warnings({"XZ_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("selected_module: {ASR: Vosk}\nASR: {Vosk: {type: vosk}}", "selected_module.ASR", "pocketsphinx"),
        ("selected_module: {ASR: VoskASR}", "selected_module.ASR", "pocketsphinx"),
        ("selected_module: {TTS: Paddle}\nTTS: {Paddle: {type: paddle_speech}}", "selected_module.TTS", "embedded"),
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
    text = "ASR: {Vosk: {type: vosk}, Other: {type: scripted}}\nLLM: {DeepSeekLLM: {api_key: abc}}"
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


ALIYUN = "ASR: {Cloud: {type: aliyun_stream, appkey: a, token: t%s}}"
DOUBAO = "ASR: {Cloud: {type: doubao_stream, appid: a, access_token: t%s}}"


def test_a_list_names_who_takes_over(tmp_path: Path) -> None:
    """In its order, each once; all of them are among the sections a worker makes."""
    text = "selected_module: {TTS: [First, espeak, Second, First]}\nTTS: {First: {type: sine}, Second: {type: hibari}}"
    tts = loaded(tmp_path, text)[0].tts
    assert (tts.engine.name, tts.fallbacks) == ("First", ("espeak", "Second"))
    assert {"espeak", "Second"} <= set(tts.engines)


def test_an_unknown_name_in_a_list_is_warned_about_and_left_out(tmp_path: Path) -> None:
    """The others still stand in for each other."""
    settings, warnings = loaded(tmp_path, "selected_module: {TTS: [Nobody, espeak]}")
    assert (settings.tts.engine.name, settings.tts.fallbacks) == ("espeak", ())
    assert [warning.key for warning in warnings] == ["selected_module.TTS"]


def test_a_voice_from_outside_has_our_own_behind_it(tmp_path: Path) -> None:
    """Another voice beats silence. A list is what its author wants: nobody else speaks."""
    section = "TTS: {Cloud: {type: huoshan_double_stream, appid: a, access_token: t, speaker: s}}"
    alone = loaded(tmp_path, f"selected_module: {{TTS: Cloud}}\n{section}")[0].tts
    assert (alone.engine.name, alone.fallbacks) == ("Cloud", ("EmbeddedTTS",))
    listed = loaded(tmp_path, f"selected_module: {{TTS: [Cloud]}}\n{section}")[0].tts
    assert (listed.engine.name, listed.fallbacks) == ("Cloud", ())


def test_a_recogniser_from_outside_has_none(tmp_path: Path) -> None:
    """Ours hears English only: what it made of Chinese would be answered."""
    asr = loaded(tmp_path, f"selected_module: {{ASR: Cloud}}\n{ALIYUN % ''}")[0].asr
    assert (asr.engine.name, asr.fallbacks) == ("Cloud", ())


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("ASR: {Cloud: {type: doubao_stream, access_token: t}}", "ASR.Cloud.appid"),
        (
            "ASR: {Cloud: {type: doubao_stream, appid: 你的火山引擎语音合成服务appid, access_token: t}}",
            "ASR.Cloud.appid",
        ),
        ("ASR: {Cloud: {type: aliyun_stream, appkey: a}}", "ASR.Cloud.access_key_id"),
        ("ASR: {Cloud: {type: aliyun_stream, appkey: a, token: t, endpoint: both}}", "ASR.Cloud.endpoint"),
        (
            "ASR: {Cloud: {type: doubao_stream, appid: a, access_token: t, end_window_size: 1}}",
            "ASR.Cloud.end_window_size",
        ),
    ],
)
def test_a_selected_service_with_a_missing_or_wrong_key_is_refused(tmp_path: Path, section: str, key: str) -> None:
    """Each turn would fail; the key is named before anything starts."""
    with pytest.raises(InvalidConfigError) as caught:
        loaded(tmp_path, f"selected_module: {{ASR: Cloud}}\n{section}")
    assert [error.key for error in caught.value.errors] == [key]


def test_a_service_that_is_not_selected_may_be_half_filled_in(tmp_path: Path) -> None:
    """Files hold many examples."""
    settings, _ = loaded(tmp_path, "ASR: {Cloud: {type: doubao_stream}}")
    assert settings.asr.engine.type == "pocketsphinx"


@pytest.mark.parametrize(
    ("section", "warned"),
    [
        (ALIYUN % ", max_sentence_silence: 400", "ASR.Cloud.max_sentence_silence"),
        (DOUBAO % ", end_window_size: '200'", "ASR.Cloud.end_window_size"),
        (DOUBAO % ", endpoint: upstream, end_window_size: 800", "ASR.Cloud.end_window_size"),
        (DOUBAO % ", endpoint: upstream, end_window_size: 300", None),
        (ALIYUN % ", max_sentence_silence: 800", None),
        (ALIYUN % "", None),
    ],
)
def test_two_ends_of_speech_are_named(tmp_path: Path, section: str, warned: str | None) -> None:
    """One owner of the end of speech: who would act before it is warned about."""
    _, warnings = loaded(tmp_path, f"selected_module: {{ASR: Cloud}}\n{section}")
    assert [warning.key for warning in warnings] == ([warned] if warned else [])
