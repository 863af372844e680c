"""Every error this project raises, by whose fault it is.

* XiaozhiError: has a machine `code` and a human message.
  * ConfigError: the operator's file or environment; names the key, the value and what was expected.
    * InvalidConfigError: all the wrong keys of one configuration.
  * DeviceProtocolError: a device sent something its protocol does not allow.
  * WorkerProtocolError: the other end of a link broke the link's rules.
  * TransitionError: our own code fed a state machine an event its state does not allow; nothing was changed.
  * EngineError: a recogniser, voice, model or upstream failed; `retryable` says whether another worker may try.
"""

from __future__ import annotations


class XiaozhiError(Exception):
    """Base of all errors; `code` is stable and goes into metrics, the message is for people."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConfigError(XiaozhiError):
    """A setting that cannot be used. The process refuses to start."""

    code = "config"

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"{key}: got {value!r}, expected {expected}")
        self.key = key
        self.value = value
        self.expected = expected


class InvalidConfigError(ConfigError):
    """Several settings that cannot be used, all of them named; the attributes are the first one's."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.key, first.value, first.expected)
        self.args = ("\n".join(str(error) for error in errors),)
        self.errors = tuple(errors)


class DeviceProtocolError(XiaozhiError):
    """A device's message is malformed; it is counted by `code` and dropped, the connection lives."""

    code = "device_protocol"


class WorkerProtocolError(XiaozhiError):
    """A message on a link breaks the link's rules."""

    code = "worker_protocol"


class TransitionError(XiaozhiError):
    """An event that the current state does not allow. The state machine was not changed."""

    code = "transition"


class EngineError(XiaozhiError):
    """An engine or upstream failed within its deadline."""

    code = "engine"

    def __init__(self, message: str, *, code: str = "engine", retryable: bool = False) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
