"""Which key of the configuration file means what: data only.

`SETTINGS` are the keys that work, with the setting each one feeds. `NOTES` are keys of today's xiaozhi-server that are
accepted and do nothing here, with the sentence that is shown when a file gives them a real value ("" = nothing to say).
`FREE` are sections whose children are named by the user.
"""

from __future__ import annotations

SETTINGS: dict[str, tuple[str, ...]] = {
    "server.ip": ("cluster.host",),
    "server.port": ("cluster.ws_port",),
    "server.http_port": ("cluster.http_port",),
    "server.websocket": ("web.websocket_url",),
    "server.vision_explain": ("session.vision_url",),
    "server.timezone_offset": ("web.timezone_offset_h", "session.timezone_offset_h"),
    "server.auth.enabled": ("auth.enabled",),
    "server.auth.expire_seconds": ("auth.expire_s",),
    "server.auth.allowed_devices": ("auth.allowed_devices",),
    "server.auth.enroll": ("auth.enroll",),
    "server.auth_key": ("auth.key",),
    "server.allowed_origins": ("auth.allowed_origins",),
    "server.trusted_proxies": ("auth.trusted_proxies",),
    "server.admin_token": ("web.admin_token",),
    "server.mqtt_gateway": ("web.mqtt_gateway",),
    "server.mqtt_signature_key": ("web.mqtt_signature_key",),
    "firmware_cache_ttl": ("web.firmware_cache_s",),
    "log.log_level": ("log.level",),
    "log.format": ("log.format",),
    "log.log_dir": ("log.directory",),
    "log.file_max_bytes": ("log.file_max_bytes",),
    "log.file_backups": ("log.file_backups",),
    "log.queue_lines": ("log.queue_lines",),
    "close_connection_no_voice_time": ("router.no_voice_close_s",),
    "tts_timeout": ("tts.segment_timeout_s",),
    "voiceprint.url": ("voiceprint.url",),
    "voiceprint.speakers": ("voiceprint.speakers",),
    "voiceprint.similarity_threshold": ("voiceprint.similarity_threshold",),
    "voiceprint.max_wait_s": ("voiceprint.max_wait_s",),
    "tool_call_timeout": ("session.tool_call_timeout_s",),
    "enable_greeting": ("session.enable_greeting",),
    "exit_commands": ("session.exit_commands",),
    "wakeup_words": ("session.wakeup_words",),
    "system_error_response": ("session.system_error_response",),
    "prompt": ("session.prompt",),
    "end_prompt.enable": ("router.end_prompt_enabled",),
    "end_prompt.prompt": ("router.end_prompt",),
    "cluster.counts.routers": ("cluster.counts.routers",),
    "cluster.counts.asr": ("cluster.counts.asr",),
    "cluster.counts.tts": ("cluster.counts.tts",),
    "cluster.counts.session": ("cluster.counts.session",),
    "cluster.metrics_port": ("cluster.metrics_port",),
    "cluster.run_dir": ("cluster.run_dir",),
    "cluster.router_endpoints": ("cluster.router_endpoints",),
    "cluster.link_bind": ("cluster.link_bind",),
    "cluster.metrics_host": ("cluster.metrics_host",),
    "cluster.advertised_host": ("cluster.advertised_host",),
    "cluster.recycle_after_h": ("cluster.recycle_after_h",),
    "cluster.recycle_rss_mib": ("cluster.recycle_rss_mib",),
    "cluster.device.ping_interval_s": ("router.ping_interval_s",),
    "cluster.device.dead_after_s": ("router.dead_after_s",),
    "cluster.device.close_timeout_s": ("router.close_timeout_s",),
    "cluster.device.hello_timeout_s": ("router.hello_timeout_s",),
    "cluster.device.idle_grace_s": ("router.idle_grace_s",),
    "cluster.device.buffer_frames": ("router.device_buffer_frames",),
    "cluster.device.slow_close_s": ("router.slow_close_s",),
    "cluster.device.max_devices": ("router.max_devices",),
    "cluster.device.connects_per_minute": ("router.connects_per_minute",),
    "cluster.device.address_connections": ("router.address_connections",),
    "cluster.device.address_connects_per_minute": ("router.address_connects_per_minute",),
    "cluster.ear.final_timeout_s": ("router.final_timeout_s",),
    "cluster.mouth.interruption": ("router.interruption",),
    "cluster.mouth.lead_frames": ("router.lead_frames",),
    "cluster.mouth.reply_timeout_s": ("router.reply_timeout_s",),
    "cluster.mouth.segment_timeout_s": ("router.segment_timeout_s",),
    "cluster.mouth.first_frame_timeout_s": ("router.first_frame_timeout_s",),
    "cluster.mouth.next_frame_timeout_s": ("router.next_frame_timeout_s",),
    "cluster.asr.recognisers": ("asr.recognisers",),
    "cluster.asr.capacity": ("asr.capacity",),
    "cluster.asr.final_timeout_s": ("asr.final_timeout_s",),
    "cluster.asr.upstream_timeout_s": ("asr.upstream_timeout_s",),
    "cluster.asr.max_models": ("asr.max_models",),
    "cluster.tts.capacity": ("tts.capacity",),
    "cluster.tts.synth_threads": ("tts.synth_threads",),
    "cluster.tts.cache_bytes": ("tts.cache_bytes",),
    "cluster.tts.opus_complexity": ("tts.opus_complexity",),
    "cluster.tts.first_frame_timeout_s": ("tts.first_frame_timeout_s",),
    "cluster.session.capacity": ("session.capacity",),
    "cluster.session.resume_window_s": ("session.resume_window_s",),
    "cluster.session.history_messages": ("session.history_messages",),
    "cluster.session.llm_first_token_timeout_s": ("session.llm_first_token_timeout_s",),
    "store.url": ("store.url",),
    "store.pool_size": ("store.pool_size",),
    "store.wait_s": ("store.wait_s",),
    "store.history_days": ("store.history_days",),
    "store.max_turns_per_device": ("store.max_turns_per_device",),
    "store.memory_days": ("store.memory_days",),
    "store.outbox_days": ("store.outbox_days",),
    "store.outbox_attempts": ("store.outbox_attempts",),
    "store.sweep_interval_s": ("store.sweep_interval_s",),
}

MODULES = ("VAD", "ASR", "LLM", "VLLM", "TTS", "Memory", "Intent")
"""Sections of named engines, one of which `selected_module` picks."""

VAD_OPTIONS: dict[str, str] = {
    "threshold": "threshold",
    "threshold_low": "threshold_low",
    "min_silence_duration_ms": "end_silence_ms",
    "min_speech_ms": "min_speech_ms",
    "pre_roll_ms": "pre_roll_ms",
    "max_utterance_ms": "max_utterance_ms",
}
"""Options of the selected VAD section → fields of VadProfile."""

NOTES: dict[str, str] = {
    "server.auth.tokens": "fixed tokens are replaced by signed ones: let devices enrol (server.auth.enroll)",
    "server.udp_gateway": "not used: the MQTT gateway itself tells devices its UDP address",
    "log.log_format": "accepted and ignored: use log.format, json or console",
    "log.log_format_file": "accepted and ignored: use log.format, json or console",
    "log.log_file": "accepted and ignored: every process writes its own file, named after its program and slot",
    "log.data_dir": "accepted and ignored: use XZ_DATA_DIR",
    "delete_audio": "speech is never written to disk, so there is nothing to keep or delete",
    "enable_wakeup_words_response_cache": "replaced: every spoken segment is cached (cluster.tts.cache_bytes)",
    "enable_websocket_ping": "",
    "tts_audio_send_delay": "replaced: frames leave on an exact clock, a little ahead (cluster.mouth.lead_frames)",
    "enable_stop_tts_notify": "not supported yet",
    "stop_tts_notify_voice": "",
    "prompt_template": "not supported yet: `prompt` is used as it stands",
    "context_providers": "not supported yet",
    "plugins": "not supported yet",
    "mcp_endpoint": "not supported yet",
    "summaryMemory": "not supported yet",
    "manager-api.url": "not supported yet: this file is used instead of the console's settings",
    "manager-api.secret": "",
    "module_test": "",
    "xiaozhi.type": "",
    "xiaozhi.version": "",
    "xiaozhi.transport": "",
    "xiaozhi.audio_params": "fixed: devices are always sent, and told, opus, 24000 Hz, 1 channel, 60 ms",
}

FREE = (*MODULES, "plugins", "context_providers", "module_test", "summaryMemory")
"""Whatever stands below these is the user's own naming."""

VARIABLES: dict[str, str] = {
    "XZ_WS_PORT": "server.port",
    "XZ_HTTP_PORT": "server.http_port",
    "XZ_METRICS_PORT": "cluster.metrics_port",
    "XZ_RUN_DIR": "cluster.run_dir",
    "XZ_ROUTERS": "cluster.counts.routers",
    "XZ_ASR": "cluster.counts.asr",
    "XZ_TTS": "cluster.counts.tts",
    "XZ_SESSION": "cluster.counts.session",
    "XZ_ROUTER_ENDPOINTS": "cluster.router_endpoints",
    "XZ_LINK_BIND": "cluster.link_bind",
    "XZ_METRICS_HOST": "cluster.metrics_host",
    "XZ_ADVERTISED_HOST": "cluster.advertised_host",
    "XZ_STORE_URL": "store.url",
    "XZ_LOG_LEVEL": "log.log_level",
    "XZ_LOG_FORMAT": "log.format",
}
"""Environment variables and the key each one overrules. XZ_DATA_DIR is no key: the file lies there."""

LISTS = frozenset({"XZ_ROUTER_ENDPOINTS"})
"""Variables that hold a list, separated by commas, semicolons or spaces."""

QUIET: dict[str, object] = {
    "delete_audio": True,
    "enable_wakeup_words_response_cache": True,
    "enable_stop_tts_notify": False,
    "tts_audio_send_delay": 0,
    "xiaozhi.audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
}
"""Values of noted keys that change nothing, so that nothing is said about them."""

MAY_BE_PLACEHOLDER = frozenset(
    {
        "voiceprint.url",
        "server.websocket",
        "server.vision_explain",
        "server.auth_key",
        "server.admin_token",
        "server.mqtt_gateway",
        "server.mqtt_signature_key",
    }
)
"""Keys whose example values in today's file ("你的…") count as not set."""
