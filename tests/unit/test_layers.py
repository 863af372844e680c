"""The cut of the project: who may import whom, what a pure module may touch, and what no module may do.

Imports are read from the source, those inside functions included, so nothing is executed here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "router", "workers", "ops", "bench")

PURE = (
    "bench.trial.books", "bench.trial.events", "bench.trial.flatness", "bench.trial.judge",
    "bench.trial.upstream_book", "bench.trial.wire_book", "bench.trial.zmtp", "bench.upstreams.sentence_ear",
    "bench.upstreams.voice", "ops.change.acts", "ops.change.changes", "ops.change.course", "ops.change.sight",
    "ops.cluster.crash_loop", "ops.cluster.recycling", "ops.cluster.startup", "ops.device.effects",
    "ops.device.firmware", "ops.device.news", "ops.device.outbox", "ops.device.speaker", "ops.device.tools",
    "ops.device.turn", "ops.device.wire", "ops.doctor.doors", "ops.doctor.finding", "ops.doctor.machine",
    "ops.doctor.places", "ops.doctor.ports", "ops.doctor.running", "ops.doctor.store", "ops.doctor.upstream",
    "ops.process", "router.device.fair_share", "router.device.identity", "router.device.limits",
    "router.device.manners", "router.device.neighbours", "router.pools.pool", "router.pools.repin",
    "router.pools.streams", "router.pools.suspicion", "router.talk.conversation", "router.talk.deadlines",
    "router.talk.ear", "router.talk.echo", "router.talk.effects", "router.talk.flow_control", "router.talk.heard",
    "router.talk.mouth", "router.talk.pacing", "router.talk.session_stream", "router.talk.tongue", "router.talk.turn",
    "router.talk.uplink", "router.talk.worker_events", "router.web.caller", "router.wire", "shared.config.asr_models",
    "shared.config.checks", "shared.config.ear_patience", "shared.config.end_of_speech",
    "shared.config.engine_choice", "shared.config.field_words", "shared.config.findings", "shared.config.keys",
    "shared.config.llm_section", "shared.config.model_kinds", "shared.config.provider_limits", "shared.config.reach",
    "shared.config.strict_yaml", "shared.config.tts_models", "shared.errors", "shared.identity.auth",
    "shared.identity.enrol", "shared.ids", "shared.link.beat", "shared.link.envelope", "shared.link.lane",
    "shared.link.messages", "shared.link.rejoin", "shared.link.roster", "shared.link.strangers",
    "shared.link.tcp_address", "shared.listening", "shared.log.redaction", "shared.log.seldom", "shared.marks",
    "shared.settings", "shared.store.commit_queue", "shared.store.faults", "shared.store.model", "shared.store.text",
    "shared.upstream.aliyun_codes", "shared.upstream.backoff", "shared.upstream.breaker", "shared.upstream.chain",
    "shared.upstream.faults", "shared.upstream.host", "shared.upstream.seats", "shared.voiceprint",
    "shared.worker.service", "workers.asr.chain", "workers.asr.endpoint", "workers.asr.engines.aliyun_protocol",
    "workers.asr.engines.dialogue", "workers.asr.engines.doubao_protocol", "workers.asr.engines.engine",
    "workers.asr.engines.fun_protocol", "workers.asr.engines.shelf", "workers.asr.held_key", "workers.asr.kept_sound",
    "workers.asr.tempo", "workers.asr.timeline", "workers.asr.voiceprint.answer", "workers.session.dialogue",
    "workers.session.emotion", "workers.session.language", "workers.session.recent", "workers.session.records",
    "workers.session.segmentation", "workers.session.speakers", "workers.session.speech_text", "workers.session.turn",
    "workers.tts.chain", "workers.tts.decoding.formats", "workers.tts.decoding.ogg", "workers.tts.decoding.wav",
    "workers.tts.engine", "workers.tts.engines.aliyun_protocol", "workers.tts.engines.edge_protocol",
    "workers.tts.engines.huoshan_frames", "workers.tts.engines.huoshan_protocol", "workers.tts.jobs",
    "workers.tts.language", "workers.tts.loudness", "workers.tts.sentences", "workers.tts.silence",
    "workers.tts.spelling", "workers.tts.text",
    *(f"shared.config.options.{path.stem}" for path in (ROOT / "shared/config/options").glob("[a-z]*.py")),
)  # fmt: skip
"""Modules that decide: events and the time come in as arguments, decisions go out."""

VALUES = ("router.talk.prompts.Prompt",)
"""Plain data that pure modules may hold, although its module also reads files."""

WORLD = frozenset(
    {
        "aiohttp", "asyncio", "multiprocessing", "random", "select", "signal", "socket", "subprocess", "threading",
        "time", "websockets", "zmq",
    }
)  # fmt: skip
"""What a pure module does without: sockets, clocks, threads, chance."""

MAY_IMPORT = {
    "shared": {"shared"},
    "router": {"router", "shared"},
    "workers.asr": {"workers.asr", "shared"},
    "workers.tts": {"workers.tts", "shared"},
    "workers.session": {"workers.session", "shared"},
}
"""Layer → layers it may see. `ops` and `bench` see everything; nobody sees them."""

VAGUE = ("util", "utils", "helper", "helpers", "manager", "managers", "common", "handler", "handlers", "misc")

Import = tuple[str, int]


def source_files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def path_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports_of(path: Path) -> Iterator[Import]:
    """Every imported module, `from a import b` as both a and a.b, with its line."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def pure_of(module: str) -> str | None:
    """The pure module that an import names, directly or by one of its attributes."""
    return next((pure for pure in (*PURE, *VALUES) if is_within(module, pure)), None)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_touches_no_clock_and_no_socket(module: str) -> None:
    """It can be tested by calling it, at any time and in any order."""
    found = [(name, line) for name, line in imports_of(path_of(module)) if name.split(".", maxsplit=1)[0] in WORLD]
    assert found == []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_only_pure_modules_of_this_project(module: str) -> None:
    """Otherwise it would touch the world through somebody else."""
    own = [(name, line) for name, line in imports_of(path_of(module)) if name.split(".", maxsplit=1)[0] in PACKAGES]
    assert [(name, line) for name, line in own if pure_of(name) is None] == []


@pytest.mark.parametrize("layer", sorted(MAY_IMPORT))
def test_imports_go_one_way(layer: str) -> None:
    """shared knows nobody, router and workers know shared only, pools do not know each other."""
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in source_files(layer.replace(".", "/"))
        for name, line in imports_of(path)
        if name.split(".", maxsplit=1)[0] in (*PACKAGES, "tests")
        and not any(is_within(name, seen) for seen in MAY_IMPORT[layer])
    ]
    assert found == []


def test_a_module_has_a_noun_for_a_name() -> None:
    """Whatever is in a module called helpers has a better place."""
    modules = [module_name(path) for path in source_files(*PACKAGES)]
    assert [name for name in modules if set(name.replace("_", ".").split(".")) & set(VAGUE)] == []


def test_no_thread_comes_from_a_default_pool() -> None:
    """Threads are a sum of constants: work goes to a thread that its owner has made and named."""
    found = []
    for path in source_files(*PACKAGES):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and uses_default_pool(node):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def uses_default_pool(call: ast.Call) -> bool:
    name = called_name(call)
    if name == "run_in_executor":
        return not call.args or (isinstance(call.args[0], ast.Constant) and call.args[0].value is None)
    return name == "to_thread"


def test_every_task_and_thread_has_a_name() -> None:
    """What is counted and shown must be told apart."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in source_files(*PACKAGES)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and called_name(node) in ("create_task", "Thread", "ThreadPoolExecutor")
        if not {keyword.arg for keyword in node.keywords} & {"name", "thread_name_prefix"}
    ]
    assert found == []


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("asyncio.to_thread(f)", True),
        ("to_thread(f)", True),
        ("loop.run_in_executor(None, f)", True),
        ("loop.run_in_executor(pool, f)", False),
        ("f(None)", False),
    ],
)
def test_the_search_for_default_pools_finds_them(code: str, is_found: bool) -> None:
    """A rule whose test cannot fail is no rule."""
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert uses_default_pool(call) is is_found
