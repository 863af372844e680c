"""How the package's file, the user's file and the environment become Settings."""

import os
import stat
import threading
from pathlib import Path

import pytest

from shared.config.auth_key import read_or_create
from shared.config.field_words import expected, field_of
from shared.config.findings import ConfigWarning
from shared.config.keys import NOTES, SETTINGS, VARIABLES
from shared.config.load import PACKAGE_FILE, load, load_with_warnings
from shared.config.run_dir import default_run_dir, prepare_run_dir
from shared.config.strict_yaml import parse
from shared.errors import ConfigError, InvalidConfigError
from shared.settings import Settings

pytestmark = pytest.mark.unit

SECRET = "Zq7wPx9LmN3"
OUTSIDE = {
    "cluster": {"data_dir", "run_dir"},
    "auth": {"key"},
    "asr": {"engines"},
    "tts": {"engines"},
    "session": {"engines"},
}
"""What loading adds: places on this machine, the created key, the engines that the file lists."""


def loaded(tmp_path: Path, text: str, **variables: str) -> tuple[Settings, list[ConfigWarning]]:
    (tmp_path / ".config.yaml").write_text(text, "utf-8")
    return load_with_warnings({"XZ_DATA_DIR": str(tmp_path), **variables})


def refused(tmp_path: Path, text: str, **variables: str) -> InvalidConfigError:
    with pytest.raises(InvalidConfigError) as caught:
        loaded(tmp_path, text, **variables)
    return caught.value


def warned(warnings: list[ConfigWarning], key: str) -> str:
    return " ".join(warning.message for warning in warnings if warning.key == key)


def test_the_packages_file_repeats_the_defaults_of_the_settings(tmp_path: Path) -> None:
    """What people read in config.yaml is what a process uses, in every field."""
    read = load({"XZ_DATA_DIR": str(tmp_path)}).model_dump(exclude=OUTSIDE)
    assert read == Settings().model_dump(exclude=OUTSIDE)


def test_every_key_that_works_stands_in_the_packages_file() -> None:
    """No setting is hidden from whoever reads the file."""
    document = parse(PACKAGE_FILE.read_text("utf-8"), "config.yaml")
    for key in SETTINGS:
        section = document
        *parents, name = key.split(".")
        for parent in parents:
            section = section[parent]
        assert name in section, key


def test_every_setting_is_reached_by_some_key() -> None:
    """A setting that no key feeds could only be changed in the code."""
    fed = {target for targets in SETTINGS.values() for target in targets}
    elsewhere = {
        "cluster.data_dir", "cluster.counts", "router.vad", "asr.engine", "asr.engines", "asr.fallbacks",
        "tts.engine", "tts.engines", "tts.fallbacks",
        "session.llm", "session.engines", "session.intent",
    }  # fmt: skip
    names = {
        f"{section}.{name}"
        for section in Settings.model_fields
        if section != "epoch"
        for name in type(getattr(Settings(), section)).model_fields
    }
    assert names - fed - elsewhere == set()
    assert {target for target in fed if field_of(target) is None} == set()


def test_a_missing_file_is_fine(tmp_path: Path) -> None:
    """A fresh machine starts with the defaults and without a warning."""
    _, warnings = load_with_warnings({"XZ_DATA_DIR": str(tmp_path / "new")})
    assert warnings == []


def test_the_users_file_overrides_key_by_key(tmp_path: Path) -> None:
    """Mappings are merged, lists are replaced, a key without a value is not set."""
    text = "server: {port: 9000, http_port: , auth: {enroll: open}}\nexit_commands: [bye]\nlog:\n"
    settings, warnings = loaded(tmp_path, text)
    assert (settings.cluster.ws_port, settings.cluster.http_port) == (9000, 8003)
    assert (settings.auth.enroll, settings.auth.enabled) == ("open", True)
    assert settings.session.exit_commands == ("bye",)
    assert warnings == []


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """Variables are the last word; an empty one is not set."""
    text = "server: {port: 9000, http_port: 9001}\ncluster: {counts: {asr: 5}}\n"
    settings, _ = loaded(tmp_path, text, XZ_WS_PORT="9100", XZ_HTTP_PORT="", XZ_ASR="0", XZ_LOG_FORMAT="json")
    assert (settings.cluster.ws_port, settings.cluster.http_port) == (9100, 9001)
    assert settings.cluster.counts.asr == 0
    assert settings.log.format == "json"


def test_router_endpoints_are_a_list(tmp_path: Path) -> None:
    """Commas, semicolons and spaces separate."""
    settings, _ = loaded(tmp_path, "", XZ_ROUTER_ENDPOINTS="ipc:///a/r0; ipc:///a/r1,ipc:///a/r2")
    assert settings.cluster.router_endpoints == ("ipc:///a/r0", "ipc:///a/r1", "ipc:///a/r2")


@pytest.mark.parametrize("variable", sorted(VARIABLES.keys() - {"XZ_RUN_DIR"}))  # any text is a path
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str) -> None:
    """The message says which variable, not which key it stands for."""
    error = refused(tmp_path, "", **{variable: "certainly wrong"})
    assert [each.key for each in error.errors] == [variable]


@pytest.mark.parametrize(
    ("text", "key", "expectation"),
    [
        ("server: {port: eight}", "server.port", "a whole number from 1 to 65535"),
        ("server: {port: true}", "server.port", "a whole number from 1 to 65535"),
        ("server: {port: 0}", "server.port", "a whole number from 1 to 65535"),
        ("server: {port: [1]}", "server.port", "a whole number from 1 to 65535"),
        ("server: {auth: {enabled: 'no'}}", "server.auth.enabled", "true or false"),
        ("server: {auth: {enroll: everyone}}", "server.auth.enroll", "one of: lan, allowlist, activation, open"),
        ("server: {auth: yes}", "server.auth", "a section of `key: value` lines"),
        ("server: {websocket: 'http://x'}", "server.websocket", "a URL that begins with ws:// or wss://"),
        ("server: {trusted_proxies: [nobody]}", "server.trusted_proxies", "a list, each entry an address"),
        ("close_connection_no_voice_time: soon", "close_connection_no_voice_time", "a number of seconds above 0"),
        ("close_connection_no_voice_time: .nan", "close_connection_no_voice_time", "a number of seconds above 0"),
        ("exit_commands: 退出", "exit_commands", "a list of texts"),
        ("voiceprint: {url: 'ws://h/?key=k'}", "voiceprint.url", "a URL that begins with http:// or https://"),
        ("voiceprint: {speakers: [a]}", "voiceprint.speakers", "a list, each entry an id, a name and a description"),
        ("voiceprint: {speakers: 'a,b,c'}", "voiceprint.speakers", "a list, such as [a, b]"),
        ("voiceprint: {similarity_threshold: 2}", "voiceprint.similarity_threshold", "a number from 0 to 1"),
        ("voiceprint: {max_wait_s: 9}", "voiceprint.max_wait_s", "a number of seconds from 0 to 5"),
        ("exit_commands: [1]", "exit_commands", "a list of texts"),
        ("prompt: {a: b}", "prompt", "text"),
        ("log: {log_level: loud}", "log.log_level", "one of: DEBUG, INFO, WARNING, ERROR"),
        ("cluster: {tts: {opus_complexity: 11}}", "cluster.tts.opus_complexity", "a whole number from 0 to 10"),
        ("VAD: {SileroVAD: {threshold: 1.5}}", "VAD.SileroVAD.threshold", "a number of probability from 0 to 1"),
        ("VAD: {SileroVAD: {min_silence_duration_ms: x}}", "VAD.SileroVAD.min_silence_duration_ms", "milliseconds"),
        ("LLM: hello", "LLM", "a section of `key: value` lines"),
        ("LLM: {ChatGLMLLM: {temperature: hot}}", "LLM.ChatGLMLLM.temperature", "a number"),
        ("LLM: {ChatGLMLLM: 5}", "LLM.ChatGLMLLM", "a section of `key: value` lines"),
        ("selected_module: {ASR: 3}", "selected_module.ASR", "the name of a section of ASR, or a list of such names"),
        ("selected_module: {TTS: [a, 3]}", "selected_module.TTS", "the name of a section of TTS, or a list of such"),
        ("selected_module: {TTS: []}", "selected_module.TTS", "the name of a section of TTS, or a list of such names"),
        ("selected_module: {LLM: [a]}", "selected_module.LLM", "the name of a section of LLM"),
    ],
)
def test_a_wrong_value_is_refused_with_key_and_expectation(
    tmp_path: Path, text: str, key: str, expectation: str
) -> None:
    """The message names the key's path, the value and what would be right."""
    error = refused(tmp_path, text)
    assert [each.key for each in error.errors] == [key]
    assert expectation in error.errors[0].expected
    assert key in str(error)


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    """Nobody has to start the server once for every mistake."""
    error = refused(tmp_path, "server: {port: a, http_port: b}\ntts_timeout: c\n", XZ_ASR="d")
    assert [each.key for each in error.errors] == ["XZ_ASR", "server.http_port", "server.port", "tts_timeout"]
    assert str(error).count("\n") == 3


@pytest.mark.parametrize(
    "text",
    [
        f"server: {{auth_key: [{SECRET}]}}",
        f"server: {{admin_token: {{a: {SECRET}}}}}",
        f"voiceprint: {{url: 'ftp://h/?key={SECRET}'}}",
        f"server: {{mqtt_signature_key: [{SECRET}]}}",
        f"LLM: {{ChatGLMLLM: {{api_key: [{SECRET}]}}}}",
        f"selected_module: {{LLM: [ 'api_key={SECRET}' ]}}",
    ],
)
def test_a_secret_of_the_wrong_type_is_not_repeated(tmp_path: Path, text: str) -> None:
    """Messages end up in terminals and bug reports."""
    assert SECRET not in str(refused(tmp_path, text))


def test_no_secret_stands_in_the_settings_repr(tmp_path: Path) -> None:
    """Whoever prints Settings prints no key."""
    text = (
        f"server: {{auth_key: {SECRET}, admin_token: {SECRET}, mqtt_signature_key: {SECRET}}}\n"
        f"LLM: {{ChatGLMLLM: {{api_key: {SECRET}}}}}\n"
    )
    settings, _ = loaded(tmp_path, text)
    assert settings.session.llm is not None
    assert settings.session.llm.options["api_key"] == SECRET
    assert SECRET not in repr(settings) + str(settings)


def test_a_quoted_number_is_a_number(tmp_path: Path) -> None:
    """Today's server converts such values, so files with them exist."""
    settings, _ = loaded(tmp_path, "server: {port: '9000'}\nclose_connection_no_voice_time: '60'\n")
    assert settings.cluster.ws_port == 9000
    assert settings.router.no_voice_close_s == 60


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("surprise: 1", "surprise", "unknown section"),
        ("voiceprint: {url: 'http://h/?key=k'}", "voiceprint.url", "voiceprint.speakers is empty"),
        ("voiceprint: {url: 'http://h/', speakers: ['a,b,c']}", "voiceprint.url", "it has no ?key="),
        ("voiceprint: {treshold: 1}", "voiceprint.treshold", "unknown key"),
        ("selectd_module: {}", "selectd_module", "did you mean selected_module?"),
        ("server: {prot: 1}", "server.prot", "did you mean server.port?"),
        ("cluster: {mouth: {lead: 1}}", "cluster.mouth.lead", "unknown key"),
        ("mcp_endpoint: 'ws://host/mcp/?token=1'", "mcp_endpoint", "not supported yet"),
        ("log: {log_format: '<green>{time}</green>'}", "log.log_format", "use log.format"),
        ("server: {auth: {enabled: false}}", "server.auth.enabled", "every device"),
        ("server: {auth: {tokens: [{token: abc}]}}", "server.auth.tokens", "enrol"),
        ("xiaozhi: {audio_params: {sample_rate: 16000}}", "xiaozhi.audio_params", "24000"),
        ("manager-api: {url: 'http://host/'}", "manager-api.url", "not supported yet"),
    ],
)
def test_what_is_ignored_is_named(tmp_path: Path, text: str, key: str, hint: str) -> None:
    """A setting without effect is never a silent one."""
    _, warnings = loaded(tmp_path, text)
    assert hint in warned(warnings, key)


def test_examples_that_were_never_filled_in_are_quiet(tmp_path: Path) -> None:
    """A copy of today's example file does not warn of what its owner never set."""
    text = """
server:
  websocket: ws://你的ip或者域名:端口号/xiaozhi/v1/
  vision_explain: http://你的ip或者域名:端口号/mcp/vision/explain
  auth: {tokens: [{token: your-token1}]}
  mqtt_gateway: null
manager-api: {url: , secret: 你的server.secret值}
mcp_endpoint: 你的接入点 websocket地址
voiceprint: {url: , speakers: ['test1,张三,张三是一个程序员']}
delete_audio: true
enable_stop_tts_notify: false
stop_tts_notify_voice: config/assets/tts_notify.mp3
xiaozhi:
  type: hello
  version: 1
  transport: websocket
  audio_params: {format: opus, sample_rate: 24000, channels: 1, frame_duration: 60}
"""
    settings, warnings = loaded(tmp_path, text)
    assert warnings == []
    assert settings.web.websocket_url is None
    assert settings.session.vision_url is None


def test_broken_yaml_names_file_line_and_column(tmp_path: Path) -> None:
    """The user's file is named as a path."""
    (tmp_path / ".config.yaml").write_text("a: 1\nb: c: d\n")
    with pytest.raises(ConfigError) as caught:
        load({"XZ_DATA_DIR": str(tmp_path)})
    assert caught.value.key == f"{tmp_path / '.config.yaml'}:2:5"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """UTF-16, for instance, or a directory of that name."""
    (tmp_path / ".config.yaml").write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load({"XZ_DATA_DIR": str(tmp_path)})


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """Windows editors put one in front."""
    (tmp_path / ".config.yaml").write_bytes(b"\xef\xbb\xbfserver: {port: 9000}\n")
    assert load({"XZ_DATA_DIR": str(tmp_path)}).cluster.ws_port == 9000


def test_the_time_zone_is_told_to_devices_and_used_by_sessions(tmp_path: Path) -> None:
    """One key, two settings."""
    settings, _ = loaded(tmp_path, "server: {timezone_offset: +5.5}")
    assert settings.web.timezone_offset_h == settings.session.timezone_offset_h == 5.5


@pytest.mark.parametrize(
    ("level", "used"), [("debug", "DEBUG"), ("TRACE", "DEBUG"), ("WARN", "WARNING"), ("CRITICAL", "ERROR")]
)
def test_levels_of_todays_files_are_understood(tmp_path: Path, level: str, used: str) -> None:
    """Loguru's names and any case."""
    assert loaded(tmp_path, f"log: {{log_level: {level}}}")[0].log.level == used


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"server: {{auth_key: {SECRET}}}\nmanager-api: {{secret: other}}", SECRET),
        (f"server: {{auth_key: }}\nmanager-api: {{secret: {SECRET}}}", SECRET),
        (f"server: {{auth_key: 你的key}}\nmanager-api: {{secret: {SECRET}}}", SECRET),
    ],
)
def test_the_auth_key_is_configured_or_the_managers(tmp_path: Path, text: str, key: str) -> None:
    """A value with 你 in it is an example, so it counts as not set."""
    assert loaded(tmp_path, text)[0].auth.key == key
    assert not (tmp_path / ".auth_key").exists()


def test_a_missing_auth_key_is_created_once(tmp_path: Path) -> None:
    """Tokens outlive a restart; the file is its owner's alone."""
    first, _ = loaded(tmp_path, "server: {auth_key: 你的key}\nmanager-api: {secret: 你的}")
    again, warnings = loaded(tmp_path, "")
    assert len(first.auth.key) >= 32
    assert again.auth.key == first.auth.key
    assert stat.S_IMODE((tmp_path / ".auth_key").stat().st_mode) == 0o600
    assert warnings == []


def test_processes_that_start_together_agree_on_the_key(tmp_path: Path) -> None:
    """Whoever comes second reads what the first one made."""
    start, keys = threading.Barrier(8), []

    def run() -> None:
        start.wait()
        keys.append(read_or_create(tmp_path))

    threads = [threading.Thread(target=run, name=f"starter-{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".auth_key"]


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    """An empty key would sign tokens that anybody can make."""
    (tmp_path / ".auth_key").write_text("\n")
    with pytest.raises(ConfigError, match="delete the file"):
        load({"XZ_DATA_DIR": str(tmp_path)})


def test_a_key_file_open_to_others_is_named(tmp_path: Path) -> None:
    """A backup restored with other rights, for instance."""
    read_or_create(tmp_path)
    (tmp_path / ".auth_key").chmod(0o644)
    _, warnings = loaded(tmp_path, "")
    assert "chmod 600" in warned(warnings, "server.auth_key")


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of one cluster may have different working directories."""
    monkeypatch.chdir(tmp_path)
    settings = load({"XZ_DATA_DIR": "d", "XZ_RUN_DIR": "r"})
    assert settings.cluster.data_dir == tmp_path / "d"
    assert settings.cluster.run_dir == tmp_path / "r"


def test_the_run_directory_depends_on_user_and_data_directory_only(tmp_path: Path) -> None:
    """Every command of a cluster comes to the same path, two clusters never do, and it is short."""
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert default_run_dir(tmp_path / "a", 7) == default_run_dir(tmp_path / "link", 7)
    assert default_run_dir(tmp_path / "a", 7) != default_run_dir(tmp_path / "b", 7)
    assert default_run_dir(tmp_path / "a", 7) != default_run_dir(tmp_path / "a", 8)
    assert len(os.fsencode(default_run_dir(tmp_path / ("deep" * 500), 2**32 - 1))) < 32


def test_the_run_directory_is_made_private(tmp_path: Path) -> None:
    """Whatever the umask says; preparing it twice is fine."""
    prepare_run_dir(tmp_path / "run")
    prepare_run_dir(tmp_path / "run")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_a_run_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Another user may have made it first."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(ConfigError, match="open to others"):
        prepare_run_dir(tmp_path / "run")


def test_a_run_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link may point anywhere."""
    prepare_run_dir(tmp_path / "real")
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="a link"):
        prepare_run_dir(tmp_path / "run")


def test_every_setting_can_be_described() -> None:
    """A refusal always knows what it expected."""
    for targets in SETTINGS.values():
        for target in targets:
            assert "something else" not in expected(target)


def test_no_key_both_works_and_is_ignored() -> None:
    """A key means one thing."""
    assert set(SETTINGS).isdisjoint(NOTES)
