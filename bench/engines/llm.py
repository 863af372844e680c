"""Each language model: the first words, the whole answer, characters a second."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass

from bench.engines.plan import DEADLINE_S, Plan, Row
from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.session.dialogue import Message
from workers.session.llm.model import ChatModel, ModelRequest, ModelText
from workers.session.llm.registry import build_model

QUESTIONS = (
    "Why is the sky blue? Answer in two sentences.",
    "请用两句话介绍一下北京。",
    "What can I cook with eggs and tomatoes? Two sentences, please.",
)
REQUESTS = 6


@dataclass(slots=True)
class Answer:
    first_s: float | None
    """To the first words; None if there were none."""
    total_s: float
    characters: int


async def measure(plan: Plan) -> list[Row]:
    session = plan.settings.session
    return [await _measured(plan, choice) for choice in plan.chosen(session.llm, session.engines)]


async def _measured(plan: Plan, choice: EngineChoice) -> Row:
    base: Row = {"engine": choice.name, "type": choice.type}
    try:
        model = build_model(choice)
    except ConfigError as error:
        return base | {"failed": str(error)}
    answers, failures = list[Answer](), list[str]()
    for number in plan.each(range(plan.count or REQUESTS), f"LLM.{choice.name}"):
        try:
            async with asyncio.timeout(DEADLINE_S):
                answers.append(await _asked(model, QUESTIONS[number % len(QUESTIONS)]))
        except (EngineError, TimeoutError) as error:
            failures.append(error.code if isinstance(error, EngineError) else "timeout")
    await model.close()
    return base | _row(answers, failures)


async def _asked(model: ChatModel, question: str) -> Answer:
    loop = asyncio.get_running_loop()
    began_s, first_s, characters = loop.time(), None, 0
    request = ModelRequest([Message("user", question)], session="bench", device="bench")
    async for piece in model.stream(request):
        if isinstance(piece, ModelText) and piece.text:
            first_s = first_s or loop.time() - began_s
            characters += len(piece.text)
    return Answer(first_s, loop.time() - began_s, characters)


def _row(answers: list[Answer], failures: list[str]) -> Row:
    firsts = [one.first_s for one in answers if one.first_s is not None]
    talking_s = sum(one.total_s - one.first_s for one in answers if one.first_s is not None)
    characters = sum(one.characters for one in answers)
    return {
        "requests": len(answers) + len(failures),
        "failed": ", ".join(sorted(set(failures))) or 0,
        "first_ms_p50": round(statistics.median(firsts) * 1000) if firsts else None,
        "first_ms_max": round(max(firsts) * 1000) if firsts else None,
        "total_ms_p50": round(statistics.median(one.total_s for one in answers) * 1000) if answers else None,
        "characters_a_second": round(characters / talking_s) if talking_s > 0 else None,
    }
